#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "engine/executor_batch.h"
#include "engine/expert_service.h"
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

// The BatchExecutor that runs a model on this machine's CPUs. Calls of the seam only note what is
// wanted; the work is done by run(), one stage at a time, so that whoever drives it can look at its
// inbox at every stage boundary.
//
// Experts are reached through an ExpertService: the stage posts the batch's rows, lets the service
// run until nothing is outstanding, and combines. A batch that yields between two runs of the
// service stands inside its experts stage, with the outputs that it has. Split there, sequences
// that miss outputs and move to the new batch post their rows of this layer again; all others keep
// what they have.
//
// One thread: the engine's. Model, pages, pool and clock must outlive it.
class ModelExecutor final : public sched::BatchExecutor {
 public:
  ModelExecutor(const model::Model& model, const model::KvStorage& kv,
                const kernels::KernelContext& context, const Clock& clock,
                const ModelExecutorOptions& options);
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

  // Runs one stage, or one run of the expert service, of the batch that holds the lease, or
  // finishes one; appends at most one event. False: there was nothing to do.
  bool run(std::vector<sched::Event>& events);

  // The service and its policy; tests use one that runs few experts at a time.
  [[nodiscard]] ExpertService& expert_service() { return service_; }
  [[nodiscard]] const ExpertService& expert_service() const { return service_; }

  // Where a batch stands. Requires: the batch lives.
  [[nodiscard]] Cursor cursor(BatchId batch) const;
  // True if the batch stands inside its experts stage: posted, but not combined.
  [[nodiscard]] bool inside_experts(BatchId batch) const;

  // See TokenChooser; for tests and for tools that compare models.
  void set_logits_observer(TokenChooser::LogitsObserver observer) {
    chooser_.set_observer(std::move(observer));
  }

 private:
  [[nodiscard]] ExecutorBatch& find(BatchId batch);
  [[nodiscard]] const ExecutorBatch& find(BatchId batch) const;
  ExecutorBatch& make_batch(BatchId id);
  void remove_batch(BatchId id);
  void release_slot(ExecutorSequence& sequence);

  void run_stage(ExecutorBatch& batch);
  void run_attention(ExecutorBatch& batch);
  // One run of the service, after the rows were posted; combines when nothing is missing.
  void run_experts(ExecutorBatch& batch);
  void post(ExecutorBatch& batch, std::span<const ExecutorSequence> sequences);
  [[nodiscard]] bool outputs_missing(const ExecutorBatch& batch) const;
  [[nodiscard]] sched::StepFinished finish_step(ExecutorBatch& batch);

  const model::Model& model_;
  const model::KvStorage& kv_;
  kernels::KernelContext context_;
  const Clock& clock_;
  model::RowStore store_;
  model::StageWorkspace workspace_;
  ExpertService service_;
  sched::OutstandingRows outstanding_;
  sched::Completion completion_;
  TokenChooser chooser_;
  std::int64_t used_regions_ = 0;
  std::int64_t max_batches_;
  std::vector<sched::SourceSlot> free_slots_;
  std::vector<std::unique_ptr<ExecutorBatch>> batches_;
  std::vector<std::unique_ptr<ExecutorBatch>> unused_;
  std::vector<kernels::AttentionSequence> attention_sequences_;
  std::vector<TokenId> embedded_tokens_;
  std::vector<sched::PostedRow> posted_rows_;
  std::vector<std::int32_t> posted_experts_;
};

}  // namespace gimbal::engine
