#include "engine/expert_service.h"

#include <algorithm>

#include "base/check.h"
#include "sched/gang_holds.h"

namespace gimbal::engine {
namespace {

std::unique_ptr<policy::ExpertQueuePolicy> default_policy() {
  auto made = policy::make_expert_queue_policy("run-all", {});
  return std::move(made).value();
}

// One writer: no need for atomic additions.
void add(std::atomic<std::uint64_t>& count, int more) {
  count.store(count.load(std::memory_order_relaxed) + static_cast<std::uint64_t>(more),
              std::memory_order_relaxed);
}

}  // namespace

ExpertService::ExpertService(const model::Model& model, const model::RowStore& rows,
                             model::StageWorkspace& workspace, const Clock& clock, int sources)
    : model_(model),
      rows_(rows),
      workspace_(workspace),
      clock_(clock),
      sources_(static_cast<std::size_t>(sources)),
      experts_per_layer_(static_cast<std::size_t>(std::max(1, model.config().experts))),
      // A dense model posts nothing; its queues are as small as queues can be.
      queues_({.layers = model.config().num_layers(),
               .experts = std::max(1, model.config().experts),
               .max_entries =
                   static_cast<int>(std::max<std::int64_t>(1, rows.rows() * rows.choices()))}),
      policy_(default_policy()),
      traffic_(static_cast<std::size_t>(model.config().num_layers()) * sources_ *
               experts_per_layer_),
      rows_run_(static_cast<std::size_t>(model.config().num_layers())),
      distinct_(rows_run_.size()),
      source_rows_(rows_run_.size() * sources_),
      source_distinct_(source_rows_.size()) {
  GIMBAL_CHECK(sources <= sched::kMostGangRanks);
}

std::span<const sched::ExpertEntry> ExpertService::run(const kernels::KernelContext& context) {
  const TimePoint started = clock_.now();
  const policy::ExpertQueueDecision& decision = queues_.next(*policy_, started);
  if (decision.run.empty()) return {};
  queues_.take(decision.run, run_);
  for (std::size_t begin = 0; begin < run_.groups.size();) {
    // Batches at different layers may share a run: one product a layer.
    const LayerIndex layer = run_.groups[begin].layer;
    experts_.clear();
    std::size_t end = begin;
    for (; end < run_.groups.size() && run_.groups[end].layer == layer; ++end) {
      const sched::ExpertRun::Group& group = run_.groups[end];
      const auto part = [&group](const std::vector<std::int32_t>& all) {
        return std::span(all).subspan(group.first, group.count);
      };
      experts_.push_back({.expert = group.expert,
                          .input_rows = part(run_.rows),
                          .output_rows = part(run_.outputs)});
    }
    model_.run_experts(context, layer, experts_, rows_.expert_input(), rows_.expert_outputs(),
                       workspace_);
    begin = end;
  }
  count_traffic();
  ++counters_.runs;
  counters_.rows += run_.entries.size();
  counters_.distinct_experts += run_.groups.size();
  const TimePoint ended = clock_.now();
  const Duration time = ended - started;
  counters_.busy += time;
  queues_.note_time(run_, time);
  run_times_.record(time);
  for (const sched::ExpertRun::Group& group : run_.groups)
    waits_.record(started - group.oldest);
  trace_.ran(run_, started, ended);
  return run_.entries;
}

void ExpertService::count_traffic() {
  for (const sched::ExpertRun::Group& group : run_.groups) {
    const auto layer = static_cast<std::size_t>(group.layer.value());
    add(rows_run_[layer], group.count);
    add(distinct_[layer], 1);
    count_sources(group);
  }
}

// Rows of one source mostly stand side by side: what it posted, as it did.
void ExpertService::count_sources(const sched::ExpertRun::Group& group) {
  sched::RankSet seen = 0;
  const int end = group.first + group.count;
  for (int i = group.first; i < end;) {
    const int first = i;
    const Rank source{run_.entries[static_cast<std::size_t>(first)].source};
    while (i < end && run_.entries[static_cast<std::size_t>(i)].source == source.value())
      ++i;
    add(traffic_[cell(group.layer, source, group.expert)], i - first);
    const std::size_t place = source_cell(group.layer, source);
    add(source_rows_[place], i - first);
    if ((seen & sched::rank_bit(source)) == 0) add(source_distinct_[place], 1);
    seen |= sched::rank_bit(source);
  }
}

void ExpertService::report_work(Rank source, Rank own, cluster::ExpertWork& to) const {
  for (int layer = 0; layer < layers(); ++layer) {
    const std::size_t from = source_cell(LayerIndex{layer}, source);
    const std::size_t place = static_cast<std::size_t>(layer) * static_cast<std::size_t>(to.ranks) +
                              static_cast<std::size_t>(own.value());
    to.rows[place] = source_rows_[from].load(std::memory_order_relaxed);
    to.distinct_experts[place] = source_distinct_[from].load(std::memory_order_relaxed);
  }
}

}  // namespace gimbal::engine
