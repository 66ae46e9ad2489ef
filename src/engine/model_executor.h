#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "cluster/expert_rows.h"
#include "engine/executor_batch.h"
#include "engine/executor_trace.h"
#include "engine/expert_port.h"
#include "engine/expert_row_counts.h"
#include "engine/expert_service.h"
#include "engine/local_experts.h"
#include "engine/routing_recorder.h"
#include "engine/token_chooser.h"
#include "kernels/kernel_context.h"
#include "model/batch_rows.h"
#include "model/forward.h"
#include "model/kv_storage.h"
#include "sched/batch_executor.h"
#include "sched/event.h"
#include "sched/outstanding_rows.h"

namespace gimbal::engine {

struct ModelExecutorOptions {
  std::int64_t max_batch_rows = 2048;  // rows of one batch
  // Batches in mid-forward at once: one that runs, two that are parked, and one being split off.
  std::int64_t max_batches = 4;
};

// Where an executor of a group keeps its rows, and how it reaches the group's experts.
struct GroupPlace {
  model::RowStore& rows;          // of all ranks: regions of max_batch_rows each
  std::int64_t first_region = 0;  // of max_batches that are the executor's
  ExpertPort& experts;
};

// What ModelExecutor::run found.
enum class Progress : std::uint8_t {
  kIdle,     // no batch holds the lease
  kWorked,   // something was done
  kWaiting,  // the batch misses outputs of experts that run elsewhere
};

// The BatchExecutor that runs a model on this machine's CPUs. Calls of the seam only note what is
// wanted; the work is done by run(), one stage at a time, so that whoever drives it can look at its
// inbox at every stage boundary.
//
// Experts are reached through an ExpertPort: the stage posts the batch's rows, advances the port
// until nothing is outstanding, and combines. Where the port allows it, a batch that yields between
// two runs stands inside its experts stage, with the outputs that it has. Split there, sequences
// that miss outputs and move to the new batch post their rows of this layer again; all others keep
// what they have. Elsewhere a batch stops at the end of the stage.
//
// One thread: the engine's. Model, pages, pool, clock and the group's place must outlive it.
class ModelExecutor final : public sched::BatchExecutor {
 public:
  ModelExecutor(const model::Model& model, const model::KvStorage& kv,
                const kernels::KernelContext& context, const Clock& clock,
                const ModelExecutorOptions& options, const GroupPlace* place = nullptr);
  ~ModelExecutor() override;

  void start(const sched::StepPlan& plan) override;
  void advance(BatchId batch, Cursor until) override;
  void yield(BatchId batch) override;
  void suspend(BatchId batch) override;
  void resume(BatchId batch) override;
  void merge(BatchId into, BatchId from) override;
  void split(BatchId from, std::span<const RequestId> sequences, BatchId to) override;
  void drop(BatchId batch, std::span<const RequestId> sequences) override;
  void finish(BatchId batch) override;
  [[nodiscard]] int layers() const override { return model_.config().num_layers(); }

  // Runs one stage, or one advance of the experts, of the batch that holds the lease, or finishes
  // one; appends at most one event.
  Progress run(std::vector<sched::Event>& events);

  [[nodiscard]] const ExpertPort& experts() const { return *experts_; }
  // Which ranks of the group ran the rows of a request that has ended; asked once. Nothing by rank
  // where it is in no group.
  [[nodiscard]] cluster::ExpertRows take_expert_rows(RequestId request) {
    return row_counts_ != nullptr ? row_counts_->take(request) : cluster::ExpertRows{};
  }
  // Makes a standing batch of one row without a sequence, for a rank that takes part in a lockstep
  // step without work. It computes on page `page`, whose content means nothing, and ends like any
  // other batch.
  void start_dummy(BatchId batch, PageId page, std::uint64_t gang_step, std::uint64_t members);

  // The policy of the executor's own service. Requires: it is in no group.
  void set_expert_policy(std::unique_ptr<policy::ExpertQueuePolicy> policy);

  // Where a batch stands. Requires: the batch lives.
  [[nodiscard]] Cursor cursor(BatchId batch) const;
  // True if the batch stands inside its experts stage: posted, but not combined.
  [[nodiscard]] bool inside_experts(BatchId batch) const;

  // Draws batches, layers and stages on the track. Null: not any more.
  void set_trace(Trace* trace, TraceTrack track) { trace_.set(trace, track); }
  // Draws the executor's own expert service, in a process of its own. Nothing where it has none: in
  // a group, or without experts. Requires: nothing has run; the trace outlives it.
  void trace_own_experts(Trace& trace, std::string_view process_name) {
    if (own_service_ && model_.config().moe_layers() > 0)
      own_service_->set_trace(trace, trace.add_process(process_name));
  }
  // Records the router's choices of every row, as from `source`. Null: not any more.
  void set_routing_recorder(RoutingRecorder* recorder, Rank source) {
    routing_ = recorder;
    routing_source_ = source;
  }

  // See TokenChooser; for tests and for tools that compare models.
  void set_logits_observer(TokenChooser::LogitsObserver observer) {
    chooser_.set_observer(std::move(observer));
  }

 private:
  static constexpr RequestId kDummyRequest{~std::uint64_t{0}};

  [[nodiscard]] ExecutorBatch& find(BatchId batch);
  [[nodiscard]] const ExecutorBatch& find(BatchId batch) const;
  ExecutorBatch& make_batch(BatchId id);
  void remove_batch(BatchId id);
  void release_slot(ExecutorSequence& sequence);

  // False: the batch waits for others.
  [[nodiscard]] bool run_stage(ExecutorBatch& batch);
  void run_attention(ExecutorBatch& batch);
  // One advance of the port, after the rows were posted; combines when nothing is missing.
  [[nodiscard]] bool run_experts(ExecutorBatch& batch);
  void leave_gang(ExecutorBatch& batch);
  void record_routing(const ExecutorBatch& batch);
  void post(ExecutorBatch& batch, std::span<const ExecutorSequence> sequences);
  [[nodiscard]] bool outputs_missing(const ExecutorBatch& batch) const;
  [[nodiscard]] sched::StepFinished finish_step(ExecutorBatch& batch);

  const model::Model& model_;
  const model::KvStorage& kv_;
  kernels::KernelContext context_;
  const Clock& clock_;
  std::optional<model::RowStore> own_rows_;  // without a group
  model::RowStore& store_;
  const std::int64_t first_region_;
  const std::int64_t max_batches_;
  model::StageWorkspace workspace_;
  std::optional<ExpertService> own_service_;  // without a group
  std::optional<LocalExperts> own_experts_;
  ExpertPort* experts_;
  ExpertRowCounts* row_counts_;  // the port's; null: none
  sched::OutstandingRows outstanding_;
  sched::Completion completion_;
  TokenChooser chooser_;
  std::int64_t used_regions_ = 0;
  std::vector<sched::SourceSlot> free_slots_;
  std::vector<std::unique_ptr<ExecutorBatch>> batches_;
  std::vector<std::unique_ptr<ExecutorBatch>> unused_;
  std::vector<kernels::AttentionSequence> attention_sequences_;
  std::vector<TokenId> embedded_tokens_;
  std::vector<sched::PostedRow> posted_rows_;
  std::vector<std::int32_t> posted_experts_;
  PageId dummy_page_;
  ExecutorTrace trace_;
  RoutingRecorder* routing_ = nullptr;
  Rank routing_source_;
  std::vector<RoutingRecorder::Rows> recorded_;
};

}  // namespace gimbal::engine
