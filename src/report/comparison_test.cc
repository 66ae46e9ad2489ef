#include "report/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/sample.h"

namespace gimbal::report {
namespace {

using std::chrono::milliseconds;

SavedResult run(double ttft, std::optional<int> seed) {
  nlohmann::json fields{
      {"duration", 1.0}, {"completed", 1}, {"mean_ttft_ms", ttft}, {"request_throughput", 2.0}};
  if (seed) fields["seed"] = *seed;
  return {.path = "x", .fields = fields, .records = {}};
}

SavedResult detailed(const std::vector<int>& ttfts) {
  std::vector<RequestRecord> records;
  for (const int ttft : ttfts) {
    RequestRecord record;
    record.ttft = record.e2e = milliseconds(ttft);
    record.output_tokens = 1;
    records.push_back(record);
  }
  const ServeResult result = summarize(records, {}, milliseconds(1000));
  return {.path = "x", .fields = to_json(result, {}), .records = records};
}

nlohmann::json row(const Table& table, const std::string& metric) {
  for (const auto& found : table.to_json()) {
    if (found["metric"] == metric) return found;
  }
  return nullptr;
}

TEST(Comparison, PairsRunsBySeedWhateverTheirOrder) {
  const ComparedSide a{"a", {run(10, 1), run(100, 2), run(1000, 3)}};
  const ComparedSide b{"b", {run(500, 3), run(5, 1), run(50, 2)}};
  EXPECT_EQ(comparison_kind(a, b), ComparisonKind::kPairedRuns);
  const auto found = row(compare(a, b), "mean_ttft_ms");
  EXPECT_NEAR(found["change"]["estimate"].get<double>(), 0.5, 1e-12);
  EXPECT_NEAR(found["change"]["low"].get<double>(), 0.5, 1e-12);
  EXPECT_NEAR(found["a"]["estimate"].get<double>(), 370.0, 1e-9);
}

TEST(Comparison, DoesNotPairWhatHasOtherSeeds) {
  const ComparedSide a{"a", {run(10, 1), run(20, 2)}};
  EXPECT_EQ(comparison_kind(a, {"b", {run(1, 1), run(1, 3)}}), ComparisonKind::kUnpairedRuns);
  EXPECT_EQ(comparison_kind(a, {"b", {run(1, 1), run(1, 1)}}), ComparisonKind::kUnpairedRuns);
  EXPECT_EQ(comparison_kind(a, {"b", {run(1, {}), run(1, {})}}), ComparisonKind::kUnpairedRuns);
  const auto found = row(compare(a, {"b", {run(3, 7), run(12, 8)}}), "mean_ttft_ms");
  EXPECT_NEAR(found["change"]["estimate"].get<double>(), 0.5, 1e-12);
}

TEST(Comparison, OfTwoRunsHasNumbersOnly) {
  const ComparedSide a{"a", {run(10, 1)}};
  const ComparedSide b{"b", {run(7, 1)}};
  EXPECT_EQ(comparison_kind(a, b), ComparisonKind::kNumbers);
  const auto found = row(compare(a, b), "mean_ttft_ms");
  EXPECT_EQ(found["a"], 10.0);
  EXPECT_NEAR(found["change"].get<double>(), 0.7, 1e-12);
}

TEST(Comparison, ResamplesRequestsOfOneRunEach) {
  std::vector<int> slow;
  std::vector<int> fast;
  for (int i = 1; i <= 200; ++i) {
    slow.push_back(10 * i);
    fast.push_back(5 * i);
  }
  const ComparedSide a{"a", {detailed(slow)}};
  const ComparedSide b{"b", {detailed(fast)}};
  EXPECT_EQ(comparison_kind(a, b), ComparisonKind::kRequests);
  const Table table = compare(a, b);
  for (const char* metric : {"mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms"}) {
    const auto found = row(table, metric);
    const double estimate = found["change"]["estimate"];
    EXPECT_NEAR(estimate, 0.5, 1e-9) << metric;
    EXPECT_LT(found["change"]["low"].get<double>(), estimate) << metric;
    EXPECT_GT(found["change"]["high"].get<double>(), estimate) << metric;
    // The statistic that is resampled is the one that is reported.
    EXPECT_NEAR(found["a"]["estimate"].get<double>(), *a.results.front().number(metric), 1e-9);
  }
  EXPECT_TRUE(row(table, "request_throughput")["change"].is_number());
}

TEST(Comparison, LeavesOutWhatOneSideLacks) {
  SavedResult with = run(10, 1);
  with.fields["request_goodput"] = 3.0;
  const Table table = compare({"a", {with}}, {"b", {run(5, 1)}});
  EXPECT_TRUE(row(table, "request_goodput").is_null());
  EXPECT_FALSE(row(table, "mean_ttft_ms").is_null());
}

TEST(Comparison, NamesWhatIsLeftOut) {
  SavedResult with = run(10, 1);
  with.fields["request_goodput"] = 3.0;
  SavedResult without = run(5, 1);
  without.path = "b.json";
  EXPECT_THAT(notes({"a", {with}}, {"b", {without}}),
              testing::ElementsAre("request_goodput is left out: b.json of 2 results lack it."));
  EXPECT_THAT(notes({"a", {with, with}}, {"b", {without, without}}),
              testing::ElementsAre(testing::HasSubstr("b.json and 1 more of 4 results")));
  EXPECT_THAT(notes({"a", {with}}, {"b", {with}}), testing::IsEmpty());
  // A field that is asked for is named even if neither has it.
  EXPECT_EQ(notes({"a", {with}}, {"b", {with}}, {.fields = {"p50_ttft_ms"}}).size(), 1u);
}

TEST(Comparison, RefusesFieldsThatNoResultHas) {
  const std::vector<ComparedSide> sides{{"b", {run(5, 1)}}, {"c", {run(5, 1)}}};
  const ComparedSide base{"a", {run(10, 1)}};
  EXPECT_TRUE(check_fields(base, sides, {}).ok());
  EXPECT_TRUE(check_fields(base, sides, {.fields = {"mean_ttft_ms"}}).ok());
  const auto wrong = check_fields(base, sides, {.fields = {"mean_ttft_ms", "mean_tfft_ms"}});
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.error().message, testing::HasSubstr("mean_tfft_ms"));
  std::vector<ComparedSide> some = sides;
  some[1].results[0].fields["extra"] = 1;
  EXPECT_TRUE(check_fields(base, some, {.fields = {"extra"}}).ok());
}

TEST(Comparison, SaysWhereRunsWithTheSameSeedAreNotPaired) {
  const ComparedSide base{"a", {run(0, 1), run(20, 2)}};
  const ComparedSide changed{"b", {run(4, 1), run(6, 2)}};
  EXPECT_EQ(comparison_kind(base, changed), ComparisonKind::kPairedRuns);
  const auto found = row(compare(base, changed), "mean_ttft_ms");
  EXPECT_NEAR(found["change"]["estimate"].get<double>(), 0.5, 1e-12);  // of the means
  const auto said = notes(base, changed);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_THAT(said[0], testing::HasSubstr("0 for mean_ttft_ms: there the change is the ratio of "
                                          "the means, each side resampled on its own"));
  // Nothing but zeros has no change to speak of, and runs without 0 are paired.
  EXPECT_THAT(notes({"a", {run(0, 1), run(0, 2)}}, changed), testing::IsEmpty());
  EXPECT_THAT(notes({"a", {run(1, 1), run(2, 2)}}, changed), testing::IsEmpty());
}

TEST(Comparison, OfZeroHasNoChange) {
  EXPECT_TRUE(
      row(compare({"a", {run(0, 1)}}, {"b", {run(5, 1)}}), "mean_ttft_ms")["change"].is_null());
  const ComparedSide zeros{"a", {run(0, 1), run(0, 2)}};
  EXPECT_TRUE(
      row(compare(zeros, {"b", {run(5, 1), run(5, 2)}}), "mean_ttft_ms")["change"].is_null());
}

TEST(Comparison, HoldsSeveralSidesAgainstOne) {
  SavedResult lacking = run(10, 1);
  lacking.fields.erase("mean_ttft_ms");
  const std::vector<ComparedSide> sides{
      {"b", {run(5, 1), run(10, 2)}}, {"c", {lacking}}, {"d", {run(40, 7)}}};
  const Table table = compare_all({"a", {run(10, 1), run(20, 2)}}, sides);
  const auto found = row(table, "mean_ttft_ms");
  EXPECT_NEAR(found["a"]["estimate"].get<double>(), 15.0, 1e-9);
  EXPECT_NEAR(found["b change"]["estimate"].get<double>(), 0.5, 1e-12);
  EXPECT_TRUE(found["c"].is_null());
  EXPECT_TRUE(found["c change"].is_null());
  EXPECT_EQ(found["d"], 40.0);
  EXPECT_NEAR(found["d change"]["estimate"].get<double>(), 40.0 / 15.0, 1e-12);
  EXPECT_FALSE(row(table, "request_throughput")["c change"].is_null());
}

TEST(Comparison, TakesNamedFields) {
  const ComparedSide a{"a", {run(10, 1)}};
  const Table table = compare(a, a, {.fields = {"request_throughput", "none"}});
  EXPECT_EQ(table.rows(), 1u);
}

}  // namespace
}  // namespace gimbal::report
