#include "engine/expert_service.h"

#include <algorithm>

namespace gimbal::engine {
namespace {

std::unique_ptr<policy::ExpertQueuePolicy> default_policy() {
  auto made = policy::make_expert_queue_policy("run-all", {});
  return std::move(made).value();
}

}  // namespace

ExpertService::ExpertService(const model::Model& model, const model::RowStore& rows,
                             model::StageWorkspace& workspace,
                             const kernels::KernelContext& context, const Clock& clock)
    : model_(model),
      rows_(rows),
      workspace_(workspace),
      context_(context),
      clock_(clock),
      // A dense model posts nothing; its queues are as small as queues can be.
      queues_({.layers = model.config().num_layers(),
               .experts = std::max(1, model.config().experts),
               .max_entries =
                   static_cast<int>(std::max<std::int64_t>(1, rows.rows() * rows.choices()))}),
      policy_(default_policy()) {}

std::span<const sched::ExpertEntry> ExpertService::run() {
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
    model_.run_experts(context_, layer, experts_, rows_.expert_input(), rows_.expert_outputs(),
                       workspace_);
    begin = end;
  }
  ++counters_.runs;
  counters_.rows += run_.entries.size();
  counters_.distinct_experts += run_.groups.size();
  counters_.busy += clock_.now() - started;
  return run_.entries;
}

}  // namespace gimbal::engine
