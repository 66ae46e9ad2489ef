#include "sim/request_log.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/random.h"
#include "report/request_record.h"
#include "sim/testbed_fixture.h"

namespace gimbal::sim {
namespace {

// The same run as a load generator would have recorded it.
struct Both {
  RequestLog log;
  std::vector<report::RequestRecord> records;
};

Both random_runs(std::uint64_t seed, std::size_t most_gaps) {
  const workload::Workload workload = random_workload(seed, 300, 50);
  Both both{RequestLog(workload, most_gaps), {}};
  Rng rng(seed);
  for (std::size_t i = 0; i < both.log.size(); ++i) {
    const workload::RequestSpec& request = workload.requests[i];
    report::RequestRecord record;
    record.scheduled = record.sent = request.arrival;
    record.prompt_tokens = request.prompt_tokens();
    record.traffic_class = std::string(to_string(request.traffic_class));
    if (rng.below(10) == 0) {
      both.log.note_end(i, RequestEnd::kRefused);
      record.error = "refused";
      both.records.push_back(record);
      continue;
    }
    Duration now =
        request.arrival + Duration{1 + static_cast<std::int64_t>(rng.below(1'000'000'000))};
    record.ttft = now - request.arrival;
    both.log.note_token(i, now);
    for (std::int64_t token = 1; token < request.output_tokens; ++token) {
      const Duration gap{1'000'000 * static_cast<std::int64_t>(rng.below(1000))};
      record.gaps.push_back(gap);
      now += gap;
      both.log.note_token(i, now);
    }
    record.e2e = now - request.arrival;
    record.output_tokens = request.output_tokens;
    both.log.at(i).cached_tokens =
        static_cast<int>(record.cached_tokens = static_cast<int>(rng.below(20)));
    both.log.note_end(i, RequestEnd::kCompleted);
    both.records.push_back(record);
  }
  return both;
}

void expect_equal(const report::GroupResult& a, const report::GroupResult& b) {
  EXPECT_EQ(a.completed, b.completed);
  EXPECT_EQ(a.failed, b.failed);
  EXPECT_EQ(a.total_input_tokens, b.total_input_tokens);
  EXPECT_EQ(a.total_output_tokens, b.total_output_tokens);
  EXPECT_EQ(a.total_cached_tokens, b.total_cached_tokens);
  EXPECT_NEAR(a.request_throughput, b.request_throughput, 1e-9);
  EXPECT_EQ(a.request_goodput, b.request_goodput);
  for (const report::Metric metric : {report::Metric::kTtft, report::Metric::kTpot,
                                      report::Metric::kE2el, report::Metric::kItl}) {
    const report::Sample& x = a.latency(metric);
    const report::Sample& y = b.latency(metric);
    ASSERT_EQ(x.size(), y.size());
    EXPECT_NEAR(x.mean(), y.mean(), 1e-3);
    EXPECT_NEAR(x.percentile(99), y.percentile(99), 1e-3);
  }
}

TEST(RequestLogTest, SaysWhatALoadGeneratorsRecordsSay) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    const Both both = random_runs(seed, 1'000'000);
    const report::ServeResultOptions options{.goodput = {{report::Metric::kTtft, 500}}};
    const report::ServeResult mine = both.log.summarize(options);
    const report::ServeResult reference =
        report::summarize(both.records, {}, mine.duration, options);
    expect_equal(mine.all, reference.all);
    ASSERT_EQ(mine.classes.size(), reference.classes.size());
    for (const auto& [name, group] : reference.classes)
      expect_equal(mine.classes.at(name), group);
    EXPECT_EQ(mine.max_output_tokens_per_s, reference.max_output_tokens_per_s);
    EXPECT_EQ(mine.max_concurrent_requests, reference.max_concurrent_requests);
    EXPECT_EQ(mine.identity.uneven_chunks, 0);
    EXPECT_TRUE(mine.valid());
  }
}

TEST(RequestLogTest, KeepsGapsOfSomeWhereThereAreMany) {
  const Both all = random_runs(5, 1'000'000);
  const Both some = random_runs(5, 500);
  const auto count = [](const Both& both) {
    return both.log.summarize({}).all.latency(report::Metric::kItl).size();
  };
  EXPECT_GT(count(all), 2000U);
  EXPECT_LT(count(some), 1500U);
  EXPECT_GT(count(some), 100U);
  EXPECT_NEAR(some.log.summarize({}).all.latency(report::Metric::kTpot).mean(),
              all.log.summarize({}).all.latency(report::Metric::kTpot).mean(), 1e-9);
}

TEST(RequestLogTest, CountsEnds) {
  const workload::Workload workload = random_workload(1, 4, 1);
  RequestLog log(workload);
  log.note_end(0, RequestEnd::kTooLong);
  log.note_end(2, RequestEnd::kFailed);
  EXPECT_EQ(log.ended(), 2U);
  const auto counts = log.counts();
  EXPECT_EQ(counts[static_cast<std::size_t>(RequestEnd::kNone)], 2);
  EXPECT_EQ(counts[static_cast<std::size_t>(RequestEnd::kTooLong)], 1);
  EXPECT_EQ(counts[static_cast<std::size_t>(RequestEnd::kFailed)], 1);
}

}  // namespace
}  // namespace gimbal::sim
