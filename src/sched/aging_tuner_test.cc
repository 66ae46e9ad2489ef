#include "sched/aging_tuner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "base/random.h"
#include "policy/aging.h"
#include "sched/event_recorder.h"
#include "sched/loop_driver.h"
#include "sched/replay.h"

namespace gimbal::sched {
namespace {

TimePoint at_ms(double ms) {
  return TimePoint{from_ms(ms)};
}

// One request of `work` after the other, each admitted when the one before it is done.
void serve_in(AgingTuner& tuner, const std::vector<std::uint64_t>& order,
              const std::map<std::uint64_t, int>& work, double start_ms) {
  double now = start_ms;
  for (const std::uint64_t id : order) {
    tuner.admitted(RequestId{id}, at_ms(now));
    now += work.at(id);
    tuner.progressed(RequestId{id}, at_ms(now), work.at(id));
  }
}

// Rounds of one long and many short requests, which arrive together, long one first.
double aging_after(bool long_ones_last) {
  AgingTuner tuner(0.1);
  std::uint64_t ids = 0;
  double now = 0;
  for (int round = 0; round < 20; ++round) {
    std::map<std::uint64_t, int> work;
    std::vector<std::uint64_t> order;
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t id = ++ids;
      work[id] = i == 0 ? 1000 : 10;
      tuner.arrived(RequestId{id}, at_ms(now), work[id]);
      order.push_back(id);
    }
    if (long_ones_last) std::rotate(order.begin(), order.begin() + 1, order.end());
    serve_in(tuner, order, work, now);
    now += 1000 + 19 * 10;
    static_cast<void>(tuner.tune(at_ms(now)));
  }
  return tuner.aging();
}

TEST(AgingTunerTest, ArrivalOrderIsNotMoved) {
  EXPECT_DOUBLE_EQ(aging_after(false), 0.1);  // both waits are equal, to the nanosecond
}

TEST(AgingTunerTest, ATailBelowThatOfArrivalOrderMovesTowardsJobSize) {
  EXPECT_LT(aging_after(true), 0.1);  // everybody behind a long one waits for it
}

TEST(AgingTunerTest, OneThatStillWaitsCounts) {
  AgingTuner tuner(0.1);
  tuner.arrived(RequestId{1}, at_ms(0), 50);  // never admitted
  for (std::uint64_t id = 2; id < 100; ++id) {
    const double now = 20.0 * static_cast<double>(id);
    tuner.arrived(RequestId{id}, at_ms(now), 10);
    tuner.admitted(RequestId{id}, at_ms(now));
    tuner.progressed(RequestId{id}, at_ms(now + 10), 10);
  }
  EXPECT_TRUE(tuner.tune(at_ms(2000)));
  EXPECT_DOUBLE_EQ(tuner.aging(), 0.15);
}

TEST(AgingTunerTest, MovesAtMostOnceASecondAndAfterEnoughRequests) {
  AgingTuner tuner(0.1);
  std::uint64_t ids = 1;
  tuner.arrived(RequestId{1}, at_ms(0), 50);
  const auto serve = [&](int count, double now) {
    for (int i = 0; i < count; ++i) {
      const RequestId id{++ids};
      tuner.arrived(id, at_ms(now), 10);
      tuner.admitted(id, at_ms(now));
      tuner.progressed(id, at_ms(now), 10);
    }
  };
  serve(31, 1500);
  EXPECT_FALSE(tuner.tune(at_ms(1500)));
  serve(10, 1600);
  EXPECT_TRUE(tuner.tune(at_ms(1600)));
  serve(70, 2000);
  EXPECT_FALSE(tuner.tune(at_ms(2599)));
  EXPECT_TRUE(tuner.tune(at_ms(2600)));
}

TEST(AgingTunerTest, CancelledRequestsLeaveNothingBehind) {
  AgingTuner tuner(0.1);
  Rng rng(1);
  std::uint64_t ids = 0;
  for (int round = 0; round < 300; ++round) {
    const double now = 10.0 * round;
    const RequestId first{++ids};
    const RequestId second{++ids};
    tuner.arrived(first, at_ms(now), 30);
    tuner.arrived(second, at_ms(now), 30);
    if (rng.below(2) == 0) tuner.admitted(first, at_ms(now));
    if (rng.below(2) == 0) tuner.progressed(first, at_ms(now + 1), 10);
    tuner.ended(first, at_ms(now + 2));
    tuner.admitted(second, at_ms(now + 2));
    tuner.progressed(second, at_ms(now + 5), 30);
  }
  static_cast<void>(tuner.tune(at_ms(5000)));
  EXPECT_LE(tuner.aging(), 0.1);  // nobody waits longer than in order of arrival
}

struct Arrival {
  TimePoint time{};
  int tokens = 0;
};

// Requests of chat length and some long ones, at a rate that goes over what the engine can do and
// back under it every quarter of a minute.
std::vector<Arrival> overload_trace(std::uint64_t seed, double length_ms) {
  Rng rng(seed);
  std::vector<Arrival> arrivals;
  double now_ms = 0;
  while (now_ms < length_ms) {
    const bool over = static_cast<int>(now_ms / 15'000) % 2 == 0;
    now_ms += -std::log(1 - rng.uniform()) * 25.5 / (over ? 1.4 : 0.55);
    const int tokens =
        static_cast<int>(rng.below(10) == 0 ? rng.between(1000, 2000) : rng.between(20, 200));
    arrivals.push_back({at_ms(1000 + now_ms), tokens});
  }
  return arrivals;
}

StepLoopOptions trace_options(std::string_view order) {
  StepLoopOptions options;
  options.order = order;
  options.max_model_len = 2048;
  options.vocab_size = 997;
  options.kv_pages = 8192;
  options.max_num_batched_tokens = 256;
  options.prefix_caching = false;
  options.max_waiting_prefill_tokens = 1'000'000'000;
  return options;
}

struct Waits {
  Duration mean{};
  Duration p99{};
};

// Runs the trace with 0.1 ms a row, steps taking the time that the executor says.
Waits waits_of(const StepLoopOptions& options, const std::vector<Arrival>& arrivals,
               EventRecorder* recorder = nullptr, std::vector<OrderDecision>* orders = nullptr) {
  auto executor = LoopDriver::executor_options(options, 1);
  executor.per_row = Duration{100'000};
  LoopDriver driver(options, executor, recorder);
  std::map<RequestId, TimePoint> arrived;
  std::vector<Duration> waits;
  std::size_t next = 0;
  std::size_t plans = 0;
  TimePoint step_end{};
  while (next < arrivals.size() || !driver.loop->idle()) {
    if (driver.executor.events.empty()) driver.executor.release_lease();
    const bool busy = !driver.executor.events.empty();
    if (busy && step_end < driver.now) {
      const auto* done = std::get_if<StepFinished>(&driver.executor.events.front());
      step_end = driver.now + (done != nullptr ? done->attention : Duration{0});
    }
    if (next < arrivals.size() && (!busy || arrivals[next].time <= step_end)) {
      driver.now = std::max(driver.now, arrivals[next].time);
      const RequestId id = driver.submit(
          std::vector<TokenId>(static_cast<std::size_t>(arrivals[next].tokens), 5), 1);
      arrived[id] = driver.now;
      ++next;
    } else {
      driver.deliver(step_end - driver.now);
      step_end = TimePoint{};
    }
    for (; plans < driver.executor.plans.size(); ++plans) {
      for (const SequenceStep& step : driver.executor.plans[plans].sequences) {
        if (step.position == 0) waits.push_back(driver.now - arrived.at(step.request));
      }
    }
  }
  if (orders != nullptr) *orders = driver.ordered;
  Waits result;
  for (const Duration wait : waits)
    result.mean += wait / static_cast<int>(waits.size());
  result.p99 = policy::wait_p99(waits);
  return result;
}

// The constants were chosen on seeds 1 to 4.
TEST(AgingTunerTest, KeepsTheTailOfArrivalOrderAndABetterMeanUnderOverload) {
  for (std::uint64_t seed = 5; seed <= 10; ++seed) {
    const auto arrivals = overload_trace(seed, 120'000);
    const Waits fcfs = waits_of(trace_options("fcfs"), arrivals);
    ASSERT_GT(to_ms(fcfs.p99), 3000) << "no overload";
    for (const double start : {0.01, 0.1, 10.0}) {
      StepLoopOptions options = trace_options("sjf-aging");
      options.order_options.aging_auto = true;
      options.order_options.aging = start;
      const Waits tuned = waits_of(options, arrivals);
      EXPECT_LE(to_ms(tuned.p99), 1.05 * to_ms(fcfs.p99)) << "seed " << seed << " from " << start;
      EXPECT_LE(to_ms(tuned.mean), 0.85 * to_ms(fcfs.mean)) << "seed " << seed << " from " << start;
    }
  }
}

TEST(AgingTunerTest, MovedOrdersReplay) {
  StepLoopOptions options = trace_options("sjf-aging");
  options.order_options.aging_auto = true;
  options.order_options.aging = 1;
  std::stringstream record;
  EventRecorder recorder(record);
  waits_of(options, overload_trace(3, 20'000), &recorder);
  const auto report = replay(record);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_GT(report->plans, 500U);
}

TEST(AgingTunerTest, ARequestThatIsAdmittedByAMovedKeySaysSo) {
  StepLoopOptions options = trace_options("sjf-aging");
  options.order_options.aging_auto = true;
  options.order_options.aging = 1;
  options.report_order = true;
  std::vector<OrderDecision> orders;
  waits_of(options, overload_trace(3, 20'000), nullptr, &orders);
  const auto order = policy::make_request_order("sjf-aging", options.order_options).value();
  std::map<RequestId, OrderDecision> first;
  int retuned = 0;
  for (const OrderDecision& decision : orders) {
    EXPECT_EQ(order->key(decision.ordered), decision.key);
    const auto [known, fresh] = first.emplace(decision.request, decision);
    if (fresh) continue;
    ++retuned;
    ASSERT_EQ(decision.reason, OrderReason::kRetuned);
    EXPECT_NE(decision.ordered.aging, known->second.ordered.aging);
    EXPECT_NE(decision.key, known->second.key);
    EXPECT_EQ(decision.ordered.job_ms, known->second.ordered.job_ms);
  }
  EXPECT_GT(retuned, 0);
  EXPECT_LT(retuned, static_cast<int>(first.size()));
}

}  // namespace
}  // namespace gimbal::sched
