#include "sched/step_loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "sched/step_loop_fixture.h"

namespace gimbal::sched {
namespace {

std::vector<std::pair<std::uint64_t, int>> rows_of(const StepPlan& plan) {
  std::vector<std::pair<std::uint64_t, int>> rows;
  for (const SequenceStep& step : plan.sequences)
    rows.emplace_back(step.request.value(), step.rows);
  return rows;
}
using Rows = std::vector<std::pair<std::uint64_t, int>>;

TEST(StepLoopTest, GeneratesToTheTokenLimit) {
  LoopDriver driver(small_options());
  const RequestId id = driver.submit(prompt(1, 6), 5);
  EXPECT_FALSE(driver.loop->idle());
  driver.run_until_idle();
  EXPECT_EQ(driver.told[id].tokens.size(), 5U);
  EXPECT_EQ(driver.told[id].finish, FinishReason::kLength);
  const SchedulerCounters counters = driver.loop->counters();
  EXPECT_EQ(counters.steps, 5U);
  EXPECT_EQ(counters.prompt_tokens, 6U);
  EXPECT_EQ(counters.generated_tokens, 5U);
  EXPECT_EQ(counters.pages_referenced, 0);
  EXPECT_EQ(counters.pages_total, 64);
}

TEST(StepLoopTest, EndsWhenTheExecutorSaysStop) {
  LoopDriver driver(small_options());
  Request request;
  request.max_tokens = 50;
  FinishReason finish = FinishReason::kLength;
  for (TokenId token = 0; finish != FinishReason::kStop; ++token) {
    request.prompt = {token, 1, 2};
    static_cast<void>(ScriptedExecutor::generate(request, kVocab, &finish));
  }
  request.id = driver.next_id();
  const RequestId id = driver.submit(request);
  driver.run_until_idle();
  EXPECT_EQ(driver.told[id].finish, FinishReason::kStop);
  EXPECT_EQ(driver.told[id].tokens, ScriptedExecutor::generate(request, kVocab));
}

TEST(StepLoopTest, EventsThatArriveTogetherMakeOneBatch) {
  LoopDriver driver(small_options());
  std::vector<Event> events;
  events.push_back(submit_event(driver, prompt(1, 6), 2));
  events.push_back(submit_event(driver, prompt(2, 7), 2));
  driver.send_together(std::move(events));
  EXPECT_EQ(rows_of(driver.executor.plans.at(0)), (Rows{{1, 6}, {2, 7}}));
}

TEST(StepLoopTest, PrefillsInChunksBesideDecodes) {
  StepLoopOptions options = small_options();
  options.max_num_batched_tokens = 8;
  LoopDriver driver(options);
  driver.submit(prompt(1, 4), 8);
  driver.submit(prompt(2, 20), 2);
  driver.run_until_idle();
  EXPECT_EQ(rows_of(driver.executor.plans.at(0)), (Rows{{1, 4}}));
  EXPECT_EQ(rows_of(driver.executor.plans.at(1)), (Rows{{1, 1}, {2, 7}}));
  EXPECT_EQ(rows_of(driver.executor.plans.at(2)), (Rows{{1, 1}, {2, 7}}));
  EXPECT_EQ(rows_of(driver.executor.plans.at(3)), (Rows{{1, 1}, {2, 6}}));
  EXPECT_EQ(rows_of(driver.executor.plans.at(4)), (Rows{{1, 1}, {2, 1}}));
  EXPECT_FALSE(driver.executor.plans.at(2).sequences.at(1).samples);
  EXPECT_TRUE(driver.executor.plans.at(3).sequences.at(1).samples);
}

TEST(StepLoopTest, FewerRowsThanDecodesServeEveryoneInTurn) {
  StepLoopOptions options = small_options();
  options.former = "tgi";  // it has all of them running before they decode
  options.max_num_batched_tokens = 2;
  LoopDriver driver(options);
  std::vector<Event> events;
  for (int i = 1; i <= 5; ++i)
    events.push_back(submit_event(driver, prompt(i, 1), 8));
  driver.send_together(std::move(events));
  while (driver.loop->counters().decodes < 5 && driver.deliver()) {
  }
  const std::size_t from = driver.executor.plans.size();
  for (int i = 0; i < 5; ++i)
    driver.run_step();
  std::vector<int> served(6);
  for (std::size_t i = from; i < driver.executor.plans.size(); ++i) {
    for (const auto& [id, rows] : rows_of(driver.executor.plans[i]))
      ++served[id];
  }
  EXPECT_EQ(std::accumulate(served.begin(), served.end(), 0), 10);
  for (int id = 1; id <= 5; ++id)
    EXPECT_EQ(served[id], 2) << id;
}

TEST(StepLoopTest, FcfsAdmitsInOrderOfArrival) {
  StepLoopOptions options = small_options();
  options.max_num_seqs = 1;
  LoopDriver driver(options);
  for (int i = 1; i <= 6; ++i)
    driver.submit(prompt(i, 20 - i), 2);
  driver.run_until_idle();
  std::vector<std::uint64_t> firsts;
  for (const StepPlan& plan : driver.executor.plans) {
    const SequenceStep& step = plan.sequences.at(0);
    if (step.position == 0) firsts.push_back(step.request.value());
  }
  EXPECT_EQ(firsts, (std::vector<std::uint64_t>{1, 2, 3, 4, 5, 6}));
}

TEST(StepLoopTest, SjfAdmitsTheSmallestUncachedPrompt) {
  StepLoopOptions options = small_options();
  options.order = "sjf";
  options.max_num_seqs = 1;
  LoopDriver driver(options);
  std::vector<TokenId> tokens = prompt(1, 30);
  driver.submit(tokens, 2);
  driver.run_step();
  const RequestId longer = driver.submit(prompt(2, 10), 1);
  tokens.push_back(1);
  const RequestId cached = driver.submit(tokens, 1);  // 28 of its tokens are there
  driver.run_until_idle();
  std::vector<RequestId> order;
  for (const StepPlan& plan : driver.executor.plans)
    order.push_back(plan.sequences[0].request);
  EXPECT_LT(std::find(order.begin(), order.end(), cached),
            std::find(order.begin(), order.end(), longer));
}

TEST(StepLoopTest, CountsPrefixHitsInTokens) {
  LoopDriver driver(small_options());
  const RequestId first = driver.submit(prompt(1, 10), 2);
  driver.run_until_idle();
  const RequestId second = driver.submit(prompt(1, 10), 2);
  driver.run_until_idle();
  EXPECT_EQ(driver.told[first].cached_tokens, 0);
  EXPECT_EQ(driver.told[second].cached_tokens, 8);
  EXPECT_EQ(driver.told[first].tokens, driver.told[second].tokens);
  EXPECT_EQ(driver.loop->counters().prefix_queried_tokens, 20U);
  EXPECT_EQ(driver.loop->counters().prefix_hit_tokens, 8U);
}

TEST(StepLoopTest, PrefixesAreNotSharedAcrossSaltsOrWhenCachingIsOff) {
  for (const bool caching : {true, false}) {
    StepLoopOptions options = small_options();
    options.prefix_caching = caching;
    LoopDriver driver(options);
    Request request;
    request.prompt = prompt(1, 10);
    for (std::uint64_t salt = 0; salt < 2; ++salt) {
      request.id = driver.next_id();
      request.cache_salt = caching ? salt : 0;
      driver.submit(request);
      driver.run_until_idle();
      EXPECT_EQ(driver.told[request.id].cached_tokens, 0);
    }
    EXPECT_EQ(driver.loop->counters().prefix_hit_tokens, 0U);
  }
}

TEST(StepLoopTest, PromptLogprobsComputeTheCachedPrefixAgain) {
  LoopDriver driver(small_options());
  driver.submit(prompt(1, 10), 2);
  driver.run_until_idle();
  Request request;
  request.id = driver.next_id();
  request.prompt = prompt(1, 10);
  request.max_tokens = 0;
  request.sampling.prompt_logprobs = true;
  driver.submit(request);
  driver.run_until_idle();
  const LoopDriver::Told& told = driver.told[request.id];
  EXPECT_EQ(told.cached_tokens, 0);
  EXPECT_TRUE(told.tokens.empty());
  EXPECT_EQ(told.finish, FinishReason::kLength);
  EXPECT_EQ(told.prompt_logprob_tokens,
            std::vector<TokenId>(request.prompt.begin() + 1, request.prompt.end()));
}

TEST(StepLoopTest, RefusesWhatCannotBeServed) {
  LoopDriver driver(small_options());
  const auto refused_as = [&](std::vector<TokenId> tokens, int max_tokens) {
    const RequestId id = driver.submit(std::move(tokens), max_tokens);
    EXPECT_TRUE(driver.refused.contains(id));
    return std::pair(driver.refused[id].code, driver.refused[id].field);
  };
  const auto invalid = ErrorCode::kInvalidArgument;
  EXPECT_EQ(refused_as({}, 1), std::pair(invalid, std::string("prompt")));
  EXPECT_EQ(refused_as({kVocab}, 1), std::pair(invalid, std::string("prompt")));
  EXPECT_EQ(refused_as({-1}, 1), std::pair(invalid, std::string("prompt")));
  EXPECT_EQ(refused_as({1}, -1), std::pair(invalid, std::string("max_tokens")));
  EXPECT_EQ(refused_as(prompt(1, 60), 5), std::pair(invalid, std::string("prompt")));
  EXPECT_TRUE(driver.loop->idle());
  EXPECT_TRUE(driver.executor.plans.empty());
  driver.submit(prompt(1, 60), 4);
  driver.run_until_idle();
  EXPECT_EQ(driver.told.size(), 1U);
}

TEST(StepLoopTest, BoundsTheQueueByMissingPrefillTokens) {
  StepLoopOptions options = small_options();
  options.max_waiting_prefill_tokens = 30;
  LoopDriver driver(options);
  driver.submit(prompt(1, 40), 20);  // alone it is always taken
  driver.submit(prompt(2, 20), 4);
  const RequestId too_much = driver.submit(prompt(3, 11), 4);
  const RequestId fits = driver.submit(prompt(4, 10), 4, RequestClass::kBestEffort);
  EXPECT_EQ(driver.refused.at(too_much).code, ErrorCode::kResourceExhausted);
  EXPECT_FALSE(driver.refused.contains(fits));
  const SchedulerCounters counters = driver.loop->counters();
  EXPECT_EQ(counters.waiting_prefill_tokens, 30);
  EXPECT_EQ(counters.waiting_best_effort_prefill_tokens, 10);
  EXPECT_EQ(counters.waiting_requests, 2);
  EXPECT_EQ(counters.waiting_best_effort_requests, 1);
  EXPECT_EQ(driver.loop->max_waiting_prefill_tokens(), 30);
  driver.run_until_idle();
  EXPECT_EQ(driver.told.size(), 3U);
}

TEST(StepLoopTest, TheQueueBoundFollowsTheMeasuredPrefillRate) {
  StepLoopOptions options = small_options();
  LoopDriver driver(options);
  EXPECT_EQ(driver.loop->max_waiting_prefill_tokens(), 65'536);
  driver.submit(prompt(1, 30), 1);  // 1 µs a row: a million tokens a second
  driver.run_until_idle();
  EXPECT_NEAR(static_cast<double>(driver.loop->max_waiting_prefill_tokens()), 6e7, 10);
  EXPECT_NEAR(*driver.loop->counters().prefill_tokens_per_second, 1e6, 1);
}

TEST(StepLoopTest, DrainingRefusesNewRequestsAndFinishesTheOthers) {
  LoopDriver driver(small_options());
  const RequestId running = driver.submit(prompt(1, 6), 3);
  const RequestId waiting = driver.submit(prompt(2, 6), 3);
  driver.send(SetDraining{});
  EXPECT_TRUE(driver.loop->draining());
  const RequestId late = driver.submit(prompt(3, 6), 3);
  EXPECT_EQ(driver.refused.at(late).code, ErrorCode::kUnavailable);
  driver.run_until_idle();
  EXPECT_EQ(driver.told[running].tokens.size(), 3U);
  EXPECT_EQ(driver.told[waiting].tokens.size(), 3U);
  driver.send(SetDraining{false});
  const RequestId again = driver.submit(prompt(4, 6), 1);
  EXPECT_FALSE(driver.refused.contains(again));
}

TEST(StepLoopTest, BestEffortMakesProgressUnderALatencySensitiveFlood) {
  StepLoopOptions options = small_options();
  options.former = "gimbal";
  options.order = "sjf-aging";
  options.kv_pages = 512;
  options.max_num_seqs = 6;
  options.max_num_batched_tokens = 20;
  options.former_options.prefill_floor = 1;
  LoopDriver driver(options);
  int next = 1;
  const auto flood = [&] {  // more latency-sensitive prefill than a few steps can do
    while (driver.loop->counters().waiting_requests < 20)
      driver.submit(prompt(next++, 30), 2);
  };
  flood();
  for (int i = 0; i < 40; ++i)
    driver.submit(prompt(next++, 40), 1, RequestClass::kBestEffort);
  for (int i = 0; i < 10; ++i)
    driver.run_step();
  const std::size_t from = driver.executor.plans.size();
  for (int i = 0; i < 200; ++i) {
    flood();
    driver.run_step();
  }
  const auto& plans = driver.executor.plans;
  for (std::size_t start = from; start + 8 <= plans.size(); ++start) {
    int all = 0;
    int best_effort = 0;
    for (std::size_t i = start; i < start + 8; ++i) {
      for (const SequenceStep& step : plans[i].sequences) {
        all += step.rows;
        best_effort += step.request_class == RequestClass::kBestEffort ? step.rows : 0;
      }
    }
    // Less what it could not run: between two prompts it may have to wait for a slot.
    ASSERT_GE(best_effort, all / 10 - 3) << "steps from " << start;
  }
}

TEST(StepLoopTest, MakeRefusesOptionsOutOfRange) {
  ScriptedExecutor executor({});
  const auto field_of = [&](auto change) {
    StepLoopOptions options = small_options();
    change(options);
    const auto made = StepLoop::make(options, executor);
    return made.ok() ? std::string("none") : made.error().field;
  };
  EXPECT_EQ(field_of([](StepLoopOptions&) {}), "none");
  EXPECT_EQ(field_of([](StepLoopOptions& o) { o.max_num_seqs = 0; }), "max_num_seqs");
  EXPECT_EQ(field_of([](StepLoopOptions& o) { o.max_num_batched_tokens = 0; }),
            "max_num_batched_tokens");
  EXPECT_EQ(field_of([](StepLoopOptions& o) { o.kv_pages = 15; }), "max_model_len");
  EXPECT_EQ(field_of([](StepLoopOptions& o) { o.vocab_size = 0; }), "vocab_size");
  EXPECT_EQ(field_of([](StepLoopOptions& o) { o.page_tokens = 0; }), "page_tokens");
  EXPECT_EQ(field_of([](StepLoopOptions& o) { o.max_waiting_prefill_tokens = 0; }),
            "max_waiting_prefill_tokens");
  EXPECT_EQ(field_of([](StepLoopOptions& o) { o.prefill_cost.ms_per_token = 0; }), "prefill_cost");
  EXPECT_EQ(field_of([](StepLoopOptions& o) { o.order = "x"; }), "order");
  EXPECT_EQ(field_of([](StepLoopOptions& o) { o.former = "x"; }), "former");
}

}  // namespace
}  // namespace gimbal::sched
