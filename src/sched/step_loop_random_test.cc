// Random arrivals, cancels and failures under every order and former, tiny pools and budgets:
// what must hold whatever the schedule.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <tuple>

#include "base/random.h"
#include "policy/batch_former.h"
#include "policy/request_order.h"
#include "sched/event_recorder.h"
#include "sched/loop_driver.h"
#include "sched/replay.h"

namespace gimbal::sched {
namespace {

constexpr int kVocab = 997;
constexpr int kMaxModelLen = 48;

StepLoopOptions random_options(Rng& rng) {
  StepLoopOptions options;
  options.max_model_len = kMaxModelLen;
  options.vocab_size = kVocab;
  options.page_tokens = static_cast<int>(rng.between(1, 5));
  const int least_pages = (kMaxModelLen + options.page_tokens - 1) / options.page_tokens;
  options.kv_pages =
      least_pages * static_cast<int>(rng.between(1, 4)) + static_cast<int>(rng.between(0, 5));
  options.max_num_seqs = static_cast<int>(rng.between(1, 12));
  options.max_num_batched_tokens =
      static_cast<int>(rng.below(2) == 0 ? rng.between(1, 6) : rng.between(7, 100));
  options.prefix_caching = rng.below(4) != 0;
  options.former_options.tgi_max_batch = static_cast<int>(rng.between(1, 8));
  options.former_options.prefill_floor = static_cast<int>(rng.between(1, 16));
  options.former_options.drain_steps = static_cast<double>(rng.between(1, 8));
  options.order_options.promote_after = from_ms(0.05);
  options.order_options.promote_after_auto = rng.below(2) == 0;
  return options;
}

Request random_request(Rng& rng, RequestId id) {
  Request request;
  request.id = id;
  const int length = static_cast<int>(rng.between(1, kMaxModelLen - 1));
  // Few distinct prompts, so that prefixes meet.
  TokenId token = static_cast<TokenId>(rng.below(3));
  for (int i = 0; i < length; ++i)
    request.prompt.push_back((token + i * 7) % kVocab);
  if (rng.below(3) == 0) {
    request.prompt[rng.below(static_cast<std::uint64_t>(length))] =
        static_cast<TokenId>(rng.below(kVocab));
  }
  request.max_tokens = static_cast<int>(rng.between(1, kMaxModelLen - length));
  request.request_class =
      rng.below(3) == 0 ? RequestClass::kBestEffort : RequestClass::kLatencySensitive;
  request.priority = static_cast<int>(rng.between(-1, 1));
  request.cache_salt = rng.below(2);
  if (rng.below(6) == 0) {
    request.sampling.prompt_logprobs = true;
    if (rng.below(2) == 0) request.max_tokens = 0;
  }
  return request;
}

// Sends `count` requests at random moments, cancels some, and runs to the end.
std::map<RequestId, Request> run_random(LoopDriver& driver, Rng& rng, int count,
                                        double cancel_rate) {
  std::map<RequestId, Request> requests;
  while (static_cast<int>(requests.size()) < count || !driver.loop->idle()) {
    const auto dice = rng.below(4);
    if (dice == 0 && static_cast<int>(requests.size()) < count) {
      do {
        Request request = random_request(rng, driver.next_id());
        requests.emplace(request.id, request);
        driver.now += Duration{static_cast<std::int64_t>(rng.below(20'000))};
        driver.submit(std::move(request));
      } while (rng.below(2) == 0 && static_cast<int>(requests.size()) < count);
    } else if (dice == 1 && rng.uniform() < cancel_rate && !requests.empty()) {
      driver.send(CancelRequest{RequestId{rng.below(requests.size()) + 1}});
    } else {
      driver.deliver(Duration{static_cast<std::int64_t>(rng.below(20'000))});
    }
  }
  return requests;
}

void expect_right_tokens(const Request& request, const LoopDriver::Told& told) {
  ASSERT_TRUE(told.finish.has_value());
  FinishReason reason{};
  const std::vector<TokenId> expected = ScriptedExecutor::generate(request, kVocab, &reason);
  if (*told.finish == FinishReason::kCancelled || *told.finish == FinishReason::kFailed) {
    ASSERT_LE(told.tokens.size(), expected.size());
    EXPECT_TRUE(std::equal(told.tokens.begin(), told.tokens.end(), expected.begin()));
    return;
  }
  EXPECT_EQ(told.tokens, expected);
  EXPECT_EQ(*told.finish, reason);
  if (!request.sampling.prompt_logprobs) return;
  EXPECT_EQ(told.prompt_logprob_tokens,
            std::vector<TokenId>(request.prompt.begin() + 1, request.prompt.end()));
  EXPECT_EQ(told.cached_tokens, 0);
}

using Names = std::tuple<std::string_view, std::string_view>;

class StepLoopRandomTest : public ::testing::TestWithParam<Names> {
 protected:
  static void run(std::uint64_t seed, double cancel_rate, double failure_rate) {
    Rng rng(seed);
    StepLoopOptions options = random_options(rng);
    options.order = std::get<0>(GetParam());
    options.former = std::get<1>(GetParam());
    auto executor = LoopDriver::executor_options(options, seed);
    executor.failure_rate = failure_rate;
    LoopDriver driver(options, executor);
    const auto requests = run_random(driver, rng, 60, cancel_rate);
    ASSERT_EQ(driver.told.size(), requests.size()) << "seed " << seed;
    for (const auto& [id, request] : requests) {
      SCOPED_TRACE("seed " + std::to_string(seed) + " request " + std::to_string(id.value()));
      expect_right_tokens(request, driver.told.at(id));
    }
    const SchedulerCounters counters = driver.loop->counters();
    EXPECT_EQ(counters.pages_referenced, 0);
    EXPECT_EQ(counters.waiting_prefill_tokens, 0);
    EXPECT_EQ(counters.running_requests + counters.waiting_requests, 0);
  }
};

TEST_P(StepLoopRandomTest, EveryRequestGetsItsTokensAndEndsOnce) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed)
    run(seed, 0, 0);
}

TEST_P(StepLoopRandomTest, CancelsAndFailuresTouchNobodyElse) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed)
    run(seed, 0.3, 0.02);
}

INSTANTIATE_TEST_SUITE_P(All, StepLoopRandomTest,
                         ::testing::Combine(::testing::ValuesIn(policy::request_order_names()),
                                            ::testing::ValuesIn(policy::batch_former_names())),
                         [](const auto& combination) {
                           std::string name(std::get<0>(combination.param));
                           name += "_" + std::string(std::get<1>(combination.param));
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace gimbal::sched
