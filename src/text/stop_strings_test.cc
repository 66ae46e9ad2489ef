#include "text/stop_strings.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace gimbal::text {
namespace {

TEST(StopStrings, HoldsBackOnlyWhatMayBeginAStop) {
  StopStrings stops({"\nUser:"});
  std::string out;
  EXPECT_FALSE(stops.push("Hello\nUs", out));
  EXPECT_EQ(out, "Hello");
  EXPECT_FALSE(stops.push("", out));
  EXPECT_EQ(out, "Hello");
  EXPECT_FALSE(stops.push("ual", out));
  EXPECT_EQ(out, "Hello\nUsual");
  EXPECT_FALSE(stops.push("\nUser", out));
  EXPECT_EQ(out, "Hello\nUsual");
  EXPECT_TRUE(stops.push(": more", out));
  EXPECT_EQ(out, "Hello\nUsual");
  EXPECT_EQ(stops.matched(), 0u);
}

TEST(StopStrings, FinishReleasesWhatWasHeld) {
  StopStrings stops({"END"});
  std::string out;
  EXPECT_FALSE(stops.push("the EN", out));
  EXPECT_EQ(out, "the ");
  stops.finish(out);
  EXPECT_EQ(out, "the EN");
  EXPECT_EQ(stops.matched(), std::nullopt);
}

TEST(StopStrings, IncludesTheStopWhenAsked) {
  StopStrings stops({"b"}, true);
  std::string out;
  EXPECT_TRUE(stops.push("abc", out));
  EXPECT_EQ(out, "ab");
}

TEST(StopStrings, FirstCompleteStopWinsAndTheLongestAmongEqualEnds) {
  StopStrings stops({"bc", "abc", "abcd"});
  std::string out;
  EXPECT_TRUE(stops.push("xabcd", out));
  EXPECT_EQ(out, "x");
  EXPECT_EQ(stops.matched(), 1u);
  EXPECT_EQ(stops.stop(1), "abc");
}

TEST(StopStrings, WithoutStopsEverythingPasses) {
  StopStrings stops({});
  std::string out;
  EXPECT_FALSE(stops.push("text", out));
  EXPECT_EQ(out, "text");
}

TEST(StopStrings, EqualsANaiveSearchForAnyCuts) {
  Rng rng(11);
  const auto random_text = [&](std::uint64_t low, std::uint64_t high) {
    std::string text;
    for (std::int64_t n =
             rng.between(static_cast<std::int64_t>(low), static_cast<std::int64_t>(high));
         n > 0; --n) {
      text.push_back(static_cast<char>('a' + rng.below(2)));
    }
    return text;
  };
  int matches = 0;
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::string> list;
    for (std::uint64_t n = 1 + rng.below(3); n > 0; --n)
      list.push_back(random_text(1, 7));
    const std::string text = random_text(0, 24);
    const bool include = rng.below(2) == 1;

    std::size_t end = std::string::npos, begin = 0;
    for (const std::string& stop : list) {
      const std::size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      if (at + stop.size() < end || (at + stop.size() == end && at < begin)) {
        end = at + stop.size();
        begin = at;
      }
    }
    const bool found = end != std::string::npos;
    matches += found ? 1 : 0;
    const std::string expected = !found ? text : text.substr(0, include ? end : begin);

    StopStrings stops(list, include);
    std::string out;
    for (std::size_t at = 0; at < text.size() && !stops.matched();) {
      const std::size_t size = rng.below(5);
      const bool stopped = stops.push(std::string_view(text).substr(at, size), out);
      at += size;
      ASSERT_EQ(stopped, found && end <= at);
      ASSERT_EQ(expected.substr(0, out.size()), out);  // nothing of a stop is ever shown
    }
    if (!stops.matched()) stops.finish(out);
    ASSERT_EQ(out, expected);
  }
  EXPECT_GT(matches, 1000);
  EXPECT_LT(matches, 4900);
}

}  // namespace
}  // namespace gimbal::text
