#include "report/serve_result.h"

#include <gtest/gtest.h>

namespace gimbal::report {
namespace {

using std::chrono::milliseconds;

// Sent at `sent`, first chunk after `ttft`, then one chunk a gap.
RequestRecord record(int sent, int ttft, std::vector<int> gaps) {
  RequestRecord made{.scheduled = milliseconds(sent), .sent = milliseconds(sent)};
  made.ttft = made.ttft_content = made.e2e = milliseconds(ttft);
  for (const int gap : gaps) {
    made.gaps.push_back(milliseconds(gap));
    made.e2e += milliseconds(gap);
  }
  made.prompt_tokens = 100;
  made.output_tokens = static_cast<std::int64_t>(gaps.size()) + 1;
  return made;
}

std::vector<RequestRecord> three() {
  std::vector<RequestRecord> records{record(0, 100, {10, 20, 30}), record(500, 300, {40}),
                                     record(900, 50, {})};
  records[0].traffic_class = "LS";
  records[1].traffic_class = "BE";
  records[2].traffic_class = "LS";
  records[0].user = "ann";
  return records;
}

TEST(ServeResult, FollowsTheDefinitions) {
  const auto records = three();
  const ServeResult result = summarize(records, {}, milliseconds(2000));
  EXPECT_EQ(result.all.completed, 3);
  EXPECT_EQ(result.all.failed, 0);
  EXPECT_EQ(result.all.total_input_tokens, 300);
  EXPECT_EQ(result.all.total_output_tokens, 7);
  EXPECT_DOUBLE_EQ(result.all.request_throughput, 1.5);
  EXPECT_DOUBLE_EQ(result.all.output_throughput, 3.5);
  EXPECT_DOUBLE_EQ(result.all.total_token_throughput, 153.5);
  EXPECT_EQ(result.all.request_goodput, std::nullopt);
  EXPECT_DOUBLE_EQ(result.all.latency(Metric::kTtft).mean(), 150.0);
  // One token has no TPOT: (20 + 40) / 2.
  EXPECT_EQ(result.all.latency(Metric::kTpot).size(), 2u);
  EXPECT_DOUBLE_EQ(result.all.latency(Metric::kTpot).mean(), 30.0);
  EXPECT_EQ(result.all.latency(Metric::kItl).size(), 4u);
  EXPECT_DOUBLE_EQ(result.all.latency(Metric::kItl).mean(), 25.0);
  EXPECT_DOUBLE_EQ(result.all.latency(Metric::kE2el).max(), 340.0);
  EXPECT_TRUE(result.valid());
}

TEST(ServeResult, GroupsByClassAndUser) {
  const auto records = three();
  const ServeResult result = summarize(records, {}, milliseconds(2000));
  ASSERT_EQ(result.classes.size(), 2u);
  EXPECT_EQ(result.classes.at("LS").completed, 2);
  EXPECT_DOUBLE_EQ(result.classes.at("LS").latency(Metric::kTtft).mean(), 75.0);
  EXPECT_DOUBLE_EQ(result.classes.at("BE").latency(Metric::kE2el).mean(), 340.0);
  ASSERT_EQ(result.users.size(), 1u);
  EXPECT_EQ(result.users.at("ann").total_output_tokens, 4);
}

TEST(ServeResult, HasAPrefixHitRateWhereAnswersTellIt) {
  auto records = three();
  EXPECT_EQ(summarize(records, {}, milliseconds(2000)).all.prefix_hit_rate(), std::nullopt);
  records[0].tells_cached = true;
  records[0].cached_tokens = 60;
  // Some servers say nothing where nothing was cached.
  const ServeResult result = summarize(records, {}, milliseconds(2000));
  EXPECT_EQ(result.all.prefix_hit_rate(), 0.2);
  EXPECT_EQ(result.classes.at("LS").prefix_hit_rate(), 0.3);
  EXPECT_EQ(result.classes.at("BE").prefix_hit_rate(), 0.0);
  records[0].cached_tokens = 0;
  EXPECT_EQ(summarize(records, {}, milliseconds(2000)).all.prefix_hit_rate(), 0.0);
  records[0].error = "gone";
  EXPECT_EQ(summarize(records, {}, milliseconds(2000)).all.prefix_hit_rate(), std::nullopt);
  EXPECT_EQ(GroupResult{.cached_known = true}.prefix_hit_rate(), std::nullopt);
}

TEST(ServeResult, CountsGoodRequestsByAllTheirLimits) {
  const auto records = three();
  const auto goodput = [&](std::vector<GoodputLimit> limits) {
    return summarize(records, {}, milliseconds(1000), {.goodput = std::move(limits)})
        .all.request_goodput;
  };
  EXPECT_EQ(goodput({{Metric::kTtft, 100.0}}), 2.0);  // a limit that is just met is met
  EXPECT_EQ(goodput({{Metric::kTtft, 100.0}, {Metric::kTpot, 19.0}}), 1.0);
  EXPECT_EQ(goodput({{Metric::kE2el, 1000.0}}), 3.0);
}

TEST(ServeResult, FailedRequestsCountNowhereElse) {
  auto records = three();
  records[1].error = "HTTP 500";
  const ServeResult result = summarize(records, {}, milliseconds(1000));
  EXPECT_EQ(result.all.completed, 2);
  EXPECT_EQ(result.all.failed, 1);
  EXPECT_EQ(result.all.total_output_tokens, 5);
  EXPECT_EQ(result.all.latency(Metric::kTtft).size(), 2u);
  EXPECT_EQ(result.classes.at("BE").failed, 1);
  EXPECT_EQ(result.identity.requests, 2);
}

TEST(ServeResult, FindsTheBusiestSecond) {
  const auto records = three();
  const ServeResult result = summarize(records, {}, milliseconds(2000));
  EXPECT_EQ(result.max_output_tokens_per_s, 7.0);  // all before 1 s
  EXPECT_EQ(result.max_concurrent_requests, 3);
}

TEST(ServeResult, ALostChunkBreaksTheIdentity) {
  auto records = three();
  EXPECT_TRUE(summarize(records, {}, milliseconds(1000)).identity.holds());
  records[0].gaps.pop_back();
  const ServeResult result = summarize(records, {}, milliseconds(1000));
  EXPECT_FALSE(result.identity.holds());
  EXPECT_DOUBLE_EQ(result.identity.max_error_ms, 30.0);
  EXPECT_EQ(result.identity.uneven_chunks, 1);
  EXPECT_FALSE(result.valid());
}

TEST(ServeResult, HoldsTheTokensOfUsageAgainstTheChunks) {
  auto records = three();
  EXPECT_NEAR(summarize(records, {}, milliseconds(1000)).identity.max_token_error_ms, 0.0, 1e-9);
  records[0].output_tokens = 7;  // in four chunks with gaps of 20 ms in the mean
  records[1].without_usage = true;
  records[2].output_tokens = 3;  // in one chunk: there is no gap that could be wrong
  const IdentityCheck check = summarize(records, {}, milliseconds(1000)).identity;
  EXPECT_TRUE(check.holds());  // what the clock said adds up
  EXPECT_EQ(check.uneven_chunks, 2);
  EXPECT_EQ(check.without_usage, 1);
  EXPECT_NEAR(check.max_token_error_ms, 60.0, 1e-9);
}

TEST(ServeResult, TheCachedShareIsOfCompletedRequests) {
  auto records = three();
  records[0].cached_tokens = 60;
  records[1].cached_tokens = 90;
  records[1].error = "lost";
  EXPECT_DOUBLE_EQ(summarize(records, {}, milliseconds(2000)).all.cached_share(), 0.3);
}

TEST(ServeResult, ALateClientMakesTheRunInvalid) {
  const auto records = three();
  const std::vector<Duration> late{milliseconds(1), milliseconds(2), milliseconds(9)};
  const ServeResult result = summarize(records, late, milliseconds(1000));
  EXPECT_FALSE(result.valid());
  EXPECT_NEAR(result.lag_ms.percentile(99), 8.86, 1e-9);
  EXPECT_TRUE(summarize(records, late, milliseconds(1000), {.max_lag_p99_ms = 10.0}).valid());
}

TEST(ServeResult, AnInterruptedRunIsInvalid) {
  const ServeResult result = summarize(three(), {}, milliseconds(1000), {.unanswered = 29});
  EXPECT_FALSE(result.valid());
  EXPECT_EQ(result.invalid_reason, "interrupted: 3 of 32 requests answered");
}

TEST(ServeResult, OfNothingIsZero) {
  const ServeResult result = summarize({}, {}, milliseconds(1));
  EXPECT_EQ(result.all.completed, 0);
  EXPECT_EQ(result.all.request_throughput, 0.0);
  EXPECT_EQ(result.all.cached_share(), 0.0);
  EXPECT_EQ(result.all.latency(Metric::kTtft).mean(), 0.0);
  EXPECT_TRUE(result.identity.holds());
}

TEST(ServeResult, ReadsListsOfMetricsAndPercentiles) {
  EXPECT_EQ(parse_metrics("ttft,e2el").value(), (std::vector{Metric::kTtft, Metric::kE2el}));
  EXPECT_EQ(parse_percentiles("50,99.9").value(), (std::vector{50.0, 99.9}));
  for (const char* bad : {"", "ttft,", "TTFT", "ttft,ttft", "latency"}) {
    EXPECT_FALSE(parse_metrics(bad).ok()) << bad;
  }
  for (const char* bad : {"", "0", "-1", "100.1", "nan", "inf", "5x", "50,,99", "99,99"}) {
    EXPECT_FALSE(parse_percentiles(bad).ok()) << bad;
  }
}

TEST(ServeResult, ReadsGoodputLimits) {
  const auto limit = parse_goodput_limit("tpot:12.5");
  ASSERT_TRUE(limit.ok());
  EXPECT_EQ(limit->metric, Metric::kTpot);
  EXPECT_EQ(limit->ms, 12.5);
  for (const char* bad : {"", "ttft", "ttft:", "ttft:x", "ttft:-1", "itl:5", "ttft:nan", "x:1"}) {
    EXPECT_FALSE(parse_goodput_limit(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace gimbal::report
