#include "report/serve_result_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gimbal::report {
namespace {

using std::chrono::milliseconds;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

RequestRecord one() {
  RequestRecord record;
  record.ttft = record.e2e = milliseconds(20);
  record.output_tokens = 1;
  return record;
}

TEST(ServeResultText, HasTheLinesOfVllm) {
  const std::vector<RequestRecord> records{one()};
  const std::string text = to_text(summarize(records, {}, milliseconds(500)),
                                   {.metrics = {Metric::kTtft}, .percentiles = {99}});
  EXPECT_THAT(text, HasSubstr("============ Serving Benchmark Result ============\n"));
  EXPECT_THAT(text, HasSubstr("Successful requests:                     1 "));
  EXPECT_THAT(text, HasSubstr("Request throughput (req/s):              2.00 "));
  EXPECT_THAT(text, HasSubstr("P99 TTFT (ms):                           20.00 "));
  EXPECT_THAT(text, Not(HasSubstr("TPOT (ms)")));
  EXPECT_THAT(text, Not(HasSubstr("INVALID")));
  EXPECT_THAT(text, HasSubstr("holds for 1 requests"));
}

TEST(ServeResultText, HasThePrefixHitRateWhereItIsKnown) {
  std::vector<RequestRecord> records{one()};
  records[0].prompt_tokens = 8;
  EXPECT_THAT(to_text(summarize(records, {}, milliseconds(500))), Not(HasSubstr("hit rate")));
  records[0].tells_cached = true;
  records[0].cached_tokens = 2;
  EXPECT_THAT(to_text(summarize(records, {}, milliseconds(500))),
              HasSubstr("Prefix hit rate (%):                     25.00 "));
}

TEST(ServeResultText, SaysThatARunIsInvalid) {
  const std::vector<RequestRecord> records{one()};
  const std::vector<Duration> late{milliseconds(50)};
  EXPECT_THAT(to_text(summarize(records, late, milliseconds(500))),
              HasSubstr("INVALID RUN: requests were sent late"));
}

TEST(ServeResultText, SaysWhatTheTokensOfUsageSayOfTheChunks) {
  std::vector<RequestRecord> records{one(), one()};
  EXPECT_THAT(to_text(summarize(records, {}, milliseconds(500))),
              Not(AnyOf(HasSubstr("chunks"), HasSubstr("usage"))));
  records[0].gaps = {milliseconds(10)};
  records[0].e2e += milliseconds(10);
  records[0].output_tokens = 4;
  records[1].without_usage = true;
  const std::string text = to_text(summarize(records, {}, milliseconds(500)));
  EXPECT_THAT(text, HasSubstr("1 answers came in chunks of other than one token"));
  EXPECT_THAT(text, HasSubstr("differs from E2E by up to 20.000 ms"));
  EXPECT_THAT(text, HasSubstr("1 answers have no usage"));
}

TEST(ServeResultText, ShowsClassesAndUsersWhereThereAreSome) {
  std::vector<RequestRecord> records{one(), one()};
  records[0].traffic_class = "LS";
  records[0].user = "u1";
  const std::string text = to_text(summarize(records, {}, milliseconds(500)));
  EXPECT_THAT(text, HasSubstr("| LS    |"));
  EXPECT_THAT(text, HasSubstr("1 users: mean E2E from 20.00 to 20.00 ms"));
}

}  // namespace
}  // namespace gimbal::report
