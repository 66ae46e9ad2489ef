#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "sched/scripted_executor.h"
#include "sched/step_loop.h"

namespace gimbal::sched {

// Drives a StepLoop on a ScriptedExecutor in tests: one event at a time, on a manual clock, and
// collects what each request was told. Aborts when a request is told anything after its end.
class LoopDriver {
 public:
  struct Told {
    std::vector<TokenId> tokens;
    std::vector<TokenId> prompt_logprob_tokens;
    std::optional<FinishReason> finish;
    std::string error;
    int cached_tokens = 0;
  };

  static ScriptedExecutor::Options executor_options(const StepLoopOptions& options,
                                                    std::uint64_t seed) {
    ScriptedExecutor::Options result;
    result.pages = options.kv_pages;
    result.page_tokens = options.page_tokens;
    result.vocab_size = options.vocab_size;
    result.max_rows = options.max_num_batched_tokens;
    result.max_sequences = options.max_num_seqs;
    result.seed = seed;
    return result;
  }

  explicit LoopDriver(const StepLoopOptions& options, std::uint64_t seed = 1,
                      EventRecorder* recorder = nullptr)
      : LoopDriver(options, executor_options(options, seed), recorder) {}
  LoopDriver(const StepLoopOptions& options, const ScriptedExecutor::Options& executor_options,
             EventRecorder* recorder = nullptr)
      : executor(executor_options) {
    auto made = StepLoop::make(options, executor, recorder);
    GIMBAL_CHECK(made.ok(), made.ok() ? std::string() : made.error().message);
    loop = std::move(made).value();
  }

  void send(Event event) { take(loop->on(now, std::move(event))); }
  void send_together(std::vector<Event> events) { take(loop->on(now, events)); }

  RequestId submit(std::vector<TokenId> prompt, int max_tokens,
                   RequestClass request_class = RequestClass::kLatencySensitive) {
    Request request;
    request.id = next_id();
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    request.request_class = request_class;
    return submit(std::move(request));
  }
  RequestId submit(Request request) {
    const RequestId id = request.id;
    send(SubmitGroup{{std::move(request)}});
    return id;
  }
  RequestId next_id() { return RequestId{++ids_}; }

  // Delivers the executor's next answer, after `later`. False: it has none.
  bool deliver(Duration later = Duration{1000}) {
    if (executor.events.empty()) executor.release_lease();
    if (executor.events.empty()) return false;
    Event event = std::move(executor.events.front());
    executor.events.pop_front();
    now += later;
    send(std::move(event));
    return true;
  }
  // Delivers answers until a step has ended (finished, failed or all dropped).
  void run_step() {
    const std::size_t plans = executor.plans.size();
    while (executor.plans.size() == plans && deliver()) {
    }
  }
  void run_until_idle(int max_events = 10'000'000) {
    while (!loop->idle() && --max_events > 0) {
      GIMBAL_CHECK(deliver(), "requests are left and nothing runs");
    }
    GIMBAL_CHECK(max_events > 0, "the loop makes no progress");
  }

  ScriptedExecutor executor;
  std::unique_ptr<StepLoop> loop;
  TimePoint now{Duration{1'000'000'000}};
  std::map<RequestId, Told> told;
  std::map<RequestId, Error> refused;
  std::vector<OrderDecision> ordered;

 private:
  void take(Outputs& outputs) {
    for (TokenNews& news : outputs.news) {
      Told& about = told[news.request];
      GIMBAL_CHECK(!about.finish, "news of a request that had ended");
      if (news.token) about.tokens.push_back(*news.token);
      for (const TokenLogprobs& entry : news.prompt_logprobs) {
        about.prompt_logprob_tokens.push_back(entry.token);
      }
      about.finish = news.finish;
      about.error = news.error;
      about.cached_tokens = news.cached_tokens;
    }
    ordered.insert(ordered.end(), outputs.ordered.begin(), outputs.ordered.end());
    for (Refusal& refusal : outputs.refusals) {
      GIMBAL_CHECK(refused.emplace(refusal.request, refusal.error).second);
    }
  }

  std::uint64_t ids_ = 0;
};

}  // namespace gimbal::sched
