#include "loadgen/prometheus_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace gimbal::loadgen {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

constexpr std::string_view kPage =
    "# HELP vllm:tokens_total Tokens.\n"
    "# TYPE vllm:tokens_total counter\n"
    "vllm:tokens_total{model=\"a b}\\\"\",engine=\"0\"} 12 1700000000\n"
    "# TYPE other counter\r\n"
    "other_total 3\r\n"
    "# TYPE load gauge\n"
    "load 0.5\n"
    "load{x=\"1\"} +1e3\n"
    "# TYPE empty gauge\n"
    "empty NaN\n"
    "# TYPE wait histogram\n"
    "wait_bucket{le=\"+Inf\"} 4\n"
    "wait_sum 2.5\n"
    "wait_count 4\n"
    "untyped 7\n";

TEST(PrometheusText, ReadsCountersAndGauges) {
  const auto page = parse_prometheus_text(kPage);
  ASSERT_TRUE(page.ok()) << page.error().message;
  EXPECT_THAT(page->counters,
              ElementsAre(Pair("other_total", 3.0),
                          Pair("vllm:tokens_total{model=\"a b}\\\"\",engine=\"0\"}", 12.0),
                          Pair("wait_count", 4.0), Pair("wait_sum", 2.5)));
  EXPECT_THAT(page->gauges, ElementsAre(Pair("load", 0.5), Pair("load{x=\"1\"}", 1000.0)));
}

TEST(PrometheusText, NamesTheLineThatIsWrong) {
  for (const char* line : {"load", "load x", "{a=\"b\"} 1", "load{a=\"b 1", "load{a=\"\\", "5"}) {
    const auto page = parse_prometheus_text("# TYPE load gauge\n" + std::string(line) + "\n");
    ASSERT_FALSE(page.ok()) << line;
    EXPECT_THAT(page.error().message, HasSubstr("line 2"));
  }
  EXPECT_TRUE(parse_prometheus_text("").ok());
  EXPECT_TRUE(parse_prometheus_text("#\n# TYPE\n# TYPE x\n\n").ok());
}

TEST(PrometheusText, TellsHowMuchCountersRose) {
  MetricPage before;
  MetricPage after;
  before.counters = {{"same", 2}, {"rose", 2}, {"fell", 9}, {"gone", 1}};
  after.counters = {{"same", 2}, {"rose", 5}, {"fell", 4}, {"new", 7}};
  EXPECT_THAT(counter_rises(before, after),
              ElementsAre(Pair("fell", 4.0), Pair("new", 7.0), Pair("rose", 3.0)));
}

TEST(PrometheusText, EndsOnEveryDamagedPage) {
  Rng rng(9);
  for (int round = 0; round < 5000; ++round) {
    std::string text(kPage);
    for (std::uint64_t damage = 1 + rng.below(4); damage > 0; --damage) {
      text[rng.below(text.size())] = static_cast<char>(rng.below(256));
    }
    const auto page = parse_prometheus_text(text);
    EXPECT_TRUE(page.ok() || !page.error().message.empty());
  }
}

}  // namespace
}  // namespace gimbal::loadgen
