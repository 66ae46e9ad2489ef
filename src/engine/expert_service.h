#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/duration_histogram.h"
#include "cluster/expert_work.h"
#include "engine/expert_trace.h"
#include "kernels/kernel_context.h"
#include "model/batch_rows.h"
#include "model/forward.h"
#include "policy/expert_queue_policy.h"
#include "sched/expert_post.h"
#include "sched/expert_queues.h"

namespace gimbal::engine {

// The rows behind sched::ExpertQueues: runs the experts that a rank owns on the rows that sources
// posted. Decisions are the queues' and their policy's; here rows are read where the sources keep
// them and outputs written to the slots they named. With one rank, source and service share a
// RowStore and nothing is sent; with several, all sources keep their rows in one store.
// Thread-compatible: one thread at a time, but for what says "any thread".
class ExpertService {
 public:
  struct Counters {
    std::uint64_t runs = 0;
    std::uint64_t rows = 0;              // (row, expert) pairs
    std::uint64_t distinct_experts = 0;  // experts whose weights were read, summed over runs
    Duration busy{};
  };

  // `sources`: ranks that post. All references must outlive the service.
  ExpertService(const model::Model& model, const model::RowStore& rows,
                model::StageWorkspace& workspace, const Clock& clock, int sources);

  // Replaces the policy; the default is run-all.
  void set_policy(std::unique_ptr<policy::ExpertQueuePolicy> policy) {
    policy_ = std::move(policy);
  }

  // Draws runs and how long their rows waited. Requires: nothing has run; the trace outlives it.
  void set_trace(Trace& trace, std::int32_t process) { trace_.set(trace, process); }

  void post(const sched::ExpertPost& post) { post_since(post, clock_.now()); }
  // Of rows that wait for the service since then.
  void post_since(const sched::ExpertPost& post, TimePoint since) { queues_.post(post, since); }
  // Forgets what a slot posted under `epoch`.
  void cancel(Rank source, sched::SourceSlot slot, std::uint32_t epoch) {
    queues_.cancel(source, slot, epoch);
  }
  // Runs what the policy chooses now, as one grouped product a layer. Returns the labels of the
  // outputs that are written, valid until the next call; empty: nothing is to run now.
  [[nodiscard]] std::span<const sched::ExpertEntry> run(const kernels::KernelContext& context);
  // Rows that wait for an expert.
  [[nodiscard]] int waiting() const { return queues_.entries(); }

  [[nodiscard]] const Counters& counters() const { return counters_; }
  // Times of runs; and how long the row waited that waited longest, for each expert of each run.
  // Any thread.
  [[nodiscard]] DurationHistogram::Reading run_times() const { return run_times_.read(); }
  [[nodiscard]] DurationHistogram::Reading waits() const { return waits_.read(); }
  // T[layer][source][expert]: rows that this service ran, since the start. Any thread; counts of
  // one run may be seen in part.
  [[nodiscard]] std::uint64_t traffic(LayerIndex layer, Rank source, ExpertId expert) const {
    return traffic_[cell(layer, source, expert)].load(std::memory_order_relaxed);
  }
  // Rows and distinct experts of a layer's runs, since the start. Any thread.
  [[nodiscard]] std::uint64_t layer_rows(LayerIndex layer) const {
    return rows_run_[static_cast<std::size_t>(layer.value())].load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t layer_distinct(LayerIndex layer) const {
    return distinct_[static_cast<std::size_t>(layer.value())].load(std::memory_order_relaxed);
  }

  [[nodiscard]] int layers() const { return static_cast<int>(rows_run_.size()); }
  // Writes what it has run of the source's rows to the cells of `to` that are of rank `own`. Any
  // thread. Requires: to has layers() layers.
  void report_work(Rank source, Rank own, cluster::ExpertWork& to) const;

 private:
  [[nodiscard]] std::size_t source_cell(LayerIndex layer, Rank source) const {
    return static_cast<std::size_t>(layer.value()) * sources_ +
           static_cast<std::size_t>(source.value());
  }
  [[nodiscard]] std::size_t cell(LayerIndex layer, Rank source, ExpertId expert) const {
    return source_cell(layer, source) * experts_per_layer_ +
           static_cast<std::size_t>(expert.value());
  }
  void count_traffic();
  void count_sources(const sched::ExpertRun::Group& group);

  const model::Model& model_;
  const model::RowStore& rows_;
  model::StageWorkspace& workspace_;
  const Clock& clock_;
  std::size_t sources_;
  std::size_t experts_per_layer_;
  sched::ExpertQueues queues_;
  std::unique_ptr<policy::ExpertQueuePolicy> policy_;
  sched::ExpertRun run_;
  std::vector<model::ExpertRows> experts_;
  Counters counters_;
  ExpertTrace trace_;
  DurationHistogram run_times_;
  DurationHistogram waits_;
  std::vector<std::atomic<std::uint64_t>> traffic_;          // [layers, sources, experts]
  std::vector<std::atomic<std::uint64_t>> rows_run_;         // [layers]
  std::vector<std::atomic<std::uint64_t>> distinct_;         // [layers]
  std::vector<std::atomic<std::uint64_t>> source_rows_;      // [layers, sources]
  std::vector<std::atomic<std::uint64_t>> source_distinct_;  // [layers, sources]
};

}  // namespace gimbal::engine
