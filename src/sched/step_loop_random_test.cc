// Random arrivals, cancels and failures under every order and former, tiny pools and budgets:
// what must hold whatever the schedule.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "base/random.h"
#include "policy/batch_former.h"
#include "policy/request_order.h"
#include "sched/loop_driver.h"
#include "sched/random_run.h"

namespace gimbal::sched {
namespace {

void expect_right_tokens(const Request& request, const LoopDriver::Told& told) {
  ASSERT_TRUE(told.finish.has_value());
  FinishReason reason{};
  const std::vector<TokenId> expected = ScriptedExecutor::generate(request, kRandomVocab, &reason);
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

TEST(StepLoopOrderTest, SjfAgingOvertakesOnlyWithinItsBound) {
  int overtakings = 0;
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Rng rng(seed);
    StepLoopOptions options = random_options(rng);
    options.order = "sjf-aging";
    options.order_options.aging_auto = false;
    options.order_options.ms_per_priority_level = 0.002;
    options.former = seed % 2 == 0 ? "vllm" : "gimbal";
    options.prefill_cost.ms_per_token = 0.0001;
    auto executor = LoopDriver::executor_options(options, seed);
    executor.per_row = Duration{0};  // no time is measured: the cost stays as it is
    LoopDriver driver(options, executor);
    std::map<RequestId, TimePoint> arrivals;
    const auto requests =
        run_random(driver, rng, 60, 0, [&](RequestId id) { arrivals[id] = driver.now; });
    std::vector<RequestId> admitted;
    for (const StepPlan& plan : driver.executor.plans) {
      for (const SequenceStep& step : plan.sequences) {
        if (std::find(admitted.begin(), admitted.end(), step.request) == admitted.end()) {
          admitted.push_back(step.request);
        }
      }
    }
    for (std::size_t i = 0; i < admitted.size(); ++i) {
      for (std::size_t j = i + 1; j < admitted.size(); ++j) {
        const Request& first = requests.at(admitted[i]);
        const Request& overtaken = requests.at(admitted[j]);
        const Duration lead = arrivals.at(first.id) - arrivals.at(overtaken.id);
        if (first.request_class != overtaken.request_class || lead <= Duration{0}) continue;
        ++overtakings;
        const double bound = (0.0001 * static_cast<double>(overtaken.prompt.size()) +
                              0.002 * (overtaken.priority - first.priority)) /
                             options.order_options.aging;
        EXPECT_LE(to_ms(lead), bound + 1e-9) << "seed " << seed;
      }
    }
  }
  EXPECT_GT(overtakings, 100);
}

// Latency-sensitive requests come without end, each in need of pages that best-effort ones hold.
TEST(StepLoopClassTest, BothClassesGoOnWhenLatencySensitiveHeadsEvict) {
  std::uint64_t evictions = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Rng rng(seed);
    StepLoopOptions options = random_options(rng);
    options.former = "gimbal";
    options.max_num_batched_tokens = static_cast<int>(rng.between(8, 64));
    options.max_num_seqs = 12;
    LoopDriver driver(options, seed);
    std::map<RequestId, Request> best_effort;
    const auto submit = [&](RequestClass request_class) {
      Request request = random_request(rng, driver.next_id());
      request.request_class = request_class;
      const RequestId id = driver.submit(request);
      if (request_class == RequestClass::kBestEffort) best_effort[id] = std::move(request);
    };
    for (int i = 0; i < 6; ++i)
      submit(RequestClass::kBestEffort);
    const auto left = [&] {
      return std::count_if(best_effort.begin(), best_effort.end(), [&](const auto& each) {
        return !driver.told[each.first].finish.has_value();
      });
    };
    int answers = 0;
    for (; left() > 0; ++answers) {
      ASSERT_LT(answers, 60'000) << "best-effort requests do not end, seed " << seed;
      if (driver.loop->counters().waiting_requests < 3) submit(RequestClass::kLatencySensitive);
      ASSERT_TRUE(driver.deliver());
    }
    evictions += driver.loop->counters().evictions_for_heads;
    const auto sensitive = static_cast<std::size_t>(std::count_if(
        driver.told.begin(), driver.told.end(),
        [&](const auto& each) { return each.second.finish && !best_effort.contains(each.first); }));
    EXPECT_GE(sensitive, driver.loop->counters().steps / 200) << "seed " << seed;
    driver.run_until_idle();
    for (const auto& [id, request] : best_effort)
      expect_right_tokens(request, driver.told.at(id));
    EXPECT_EQ(driver.loop->counters().pages_referenced, 0);
  }
  EXPECT_GT(evictions, 100U);
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
