#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
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
// RowStore and nothing is sent. One thread: the engine's.
class ExpertService {
 public:
  struct Counters {
    std::uint64_t runs = 0;
    std::uint64_t rows = 0;              // (row, expert) pairs
    std::uint64_t distinct_experts = 0;  // experts whose weights were read, summed over runs
    Duration busy{};
  };

  // `max_entries`: (row, choice) pairs that may wait at once. All references must outlive the
  // service.
  ExpertService(const model::Model& model, const model::RowStore& rows,
                model::StageWorkspace& workspace, const kernels::KernelContext& context,
                const Clock& clock);

  // Replaces the policy; the default is run-all.
  void set_policy(std::unique_ptr<policy::ExpertQueuePolicy> policy) {
    policy_ = std::move(policy);
  }

  void post(const sched::ExpertPost& post) { queues_.post(post, clock_.now()); }
  // Forgets what a slot posted under `epoch`.
  void cancel(Rank source, sched::SourceSlot slot, std::uint32_t epoch) {
    queues_.cancel(source, slot, epoch);
  }
  // Runs what the policy chooses now, as one grouped product a layer. Returns the labels of the
  // outputs that are written, valid until the next call; empty: nothing is to run now.
  [[nodiscard]] std::span<const sched::ExpertEntry> run();

  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  const model::Model& model_;
  const model::RowStore& rows_;
  model::StageWorkspace& workspace_;
  kernels::KernelContext context_;
  const Clock& clock_;
  sched::ExpertQueues queues_;
  std::unique_ptr<policy::ExpertQueuePolicy> policy_;
  sched::ExpertRun run_;
  std::vector<model::ExpertRows> experts_;
  Counters counters_;
};

}  // namespace gimbal::engine
