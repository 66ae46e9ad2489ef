// Steps that only decode allocate nothing in the scheduler: this program counts allocations.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "sched/step_loop.h"

namespace {

bool counting = false;
long allocations = 0;

}  // namespace

// Not inlined, for g++ would then take the pairs apart and call them mismatched.
[[gnu::noinline]] void* operator new(std::size_t size) {
  allocations += counting ? 1 : 0;
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*size*/) noexcept {
  std::free(memory);
}

namespace gimbal::sched {
namespace {

// Remembers where the plan is; the test makes its answers.
class PointingExecutor final : public BatchExecutor {
 public:
  void start(const StepPlan& started) override { plan = &started; }
  void advance(BatchId /*batch*/, Cursor /*until*/) override {}
  void yield(BatchId /*batch*/) override {}
  void suspend(BatchId /*batch*/) override {}
  void resume(BatchId /*batch*/) override {}
  void merge(BatchId /*into*/, BatchId /*from*/) override {}
  void split(BatchId /*from*/, std::span<const RequestId> /*sequences*/, BatchId /*to*/) override {}
  void drop(BatchId /*batch*/, std::span<const RequestId> /*sequences*/) override {}
  void finish(BatchId /*batch*/) override {}
  [[nodiscard]] int layers() const override { return 2; }

  const StepPlan* plan = nullptr;
};

TEST(StepLoopAllocationTest, DecodeStepsAllocateNothing) {
  for (const char* former : {"vllm", "tgi", "gimbal"}) {
    StepLoopOptions options;
    options.former = former;
    options.max_model_len = 512;
    options.vocab_size = 100;
    options.kv_pages = 2048;
    options.max_num_batched_tokens = 24;  // fewer than decodes: they have to be chosen
    options.former_options.target_itl_ms = 0.1;
    options.order_options.aging_auto = true;
    PointingExecutor executor;
    auto loop = std::move(StepLoop::make(options, executor)).value();
    TimePoint now{Duration{1}};
    std::vector<Event> events;
    for (std::uint64_t i = 0; i < 32; ++i) {
      Request request;
      request.id = RequestId{i};
      request.prompt.assign(3, static_cast<TokenId>(i));
      request.max_tokens = 500;
      request.request_class =
          i % 3 == 0 ? RequestClass::kBestEffort : RequestClass::kLatencySensitive;
      events.emplace_back(SubmitGroup{{std::move(request)}});
    }
    loop->on(now, events);
    long before = 0;
    for (int step = 0; step < 300; ++step) {
      const bool measured = step >= 100;  // whoever is to run has been admitted
      std::vector<Event> reached;
      reached.push_back(StageReached{executor.plan->batch, Cursor::end(2)});
      StepFinished finished;
      finished.batch = executor.plan->batch;
      finished.attention = Duration{1000};
      for (const SequenceStep& member : executor.plan->sequences) {
        SequenceResult& result = finished.sequences.emplace_back();
        result.request = member.request;
        if (member.samples) result.token = 1;
      }
      std::vector<Event> answer;
      answer.push_back(std::move(finished));
      now += Duration{1000};
      if (step == 100) before = static_cast<long>(loop->counters().generated_tokens);
      counting = measured;
      loop->on(now, reached);
      loop->on(now, answer);
      counting = false;
    }
    EXPECT_EQ(static_cast<long>(loop->counters().generated_tokens) - before, 200 * 24) << former;
    EXPECT_EQ(allocations, 0) << former;
    allocations = 0;
  }
}

}  // namespace
}  // namespace gimbal::sched
