#pragma once

#include <cstdint>
#include <vector>

#include "apps/model_flags.h"
#include "base/clock.h"
#include "base/random.h"
#include "engine/model_executor.h"
#include "model/kv_storage.h"
#include "sched/batch_executor.h"

namespace gimbal::apps {

// Runs steps of known size on an executor: no server, no scheduler, no tokenizer. Sequences have
// block tables of their own; all tokens are random, fed instead of the ones that the model chooses,
// so that the routing stays varied, and the same in every repetition. One thread.
class EngineBenchRun {
 public:
  struct Sizes {
    int prompt_tokens = 0;    // longest prompt, run as one chunk
    int batch = 0;            // most sequences that decode together
    int depth = 0;            // tokens before the first that is decoded
    int generate_tokens = 0;  // most steps of decode()
  };
  struct Work {
    Duration time{};
    Duration service{};  // of it, in the expert service
    std::int64_t steps = 0;
    std::int64_t rows = 0;               // token rows over all steps
    std::uint64_t distinct_experts = 0;  // summed over layers and steps
  };

  // `loaded` must outlive it.
  EngineBenchRun(const LoadedModel& loaded, const Sizes& sizes);

  // One prompt of `tokens` tokens as one chunk, and the choice of the token after it.
  Work prefill(int tokens);
  // Fills the caches of all sequences up to the depth. Needed once, before decode().
  void fill_contexts();
  // `steps` tokens for each of `batch` sequences, all together, after the depth.
  Work decode(int batch, int steps);

 private:
  struct Sequence {
    std::vector<TokenId> tokens;
    std::vector<PageId> pages;
  };

  Sequence make_sequence(int tokens);
  [[nodiscard]] sched::SequenceStep step_of(std::size_t number, const Sequence& sequence,
                                            std::int32_t position, std::int32_t rows) const;
  void run_step(const std::vector<sched::SequenceStep>& steps, Work& work);

  const model::Model& model_;
  Sizes sizes_;
  SteadyClock clock_;
  model::KvStorage kv_;
  engine::ModelExecutor executor_;
  sched::SamplingParams sampling_;
  Rng rng_;
  std::int32_t next_page_ = 0;
  Sequence prompt_;
  std::vector<Sequence> decodes_;
  sched::StepPlan plan_;
  std::vector<sched::Event> events_;
};

}  // namespace gimbal::apps
