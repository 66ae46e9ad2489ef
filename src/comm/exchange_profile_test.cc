#include "comm/exchange_profile.h"

#include <gtest/gtest.h>

namespace gimbal::comm {
namespace {

Result<ExchangeProfile> parse(std::string_view text) {
  auto json = parse_json(text);
  if (!json.ok()) return json.error();
  return exchange_profile_from_json(*json);
}

TEST(ExchangeProfile, ReadsTiers) {
  const auto profile = parse(
      R"({"ranks_per_node": 2, "same_node": {"latency_us": 3.5, "gb_per_s": 390},
          "other_node": {"latency_us": 12}})");
  ASSERT_TRUE(profile.ok()) << profile.error().message;
  EXPECT_EQ(profile->tier(Rank{0}, Rank{1}), (ExchangeTier{3.5, 390}));
  EXPECT_EQ(profile->tier(Rank{1}, Rank{2}), (ExchangeTier{12, 0}));
  EXPECT_EQ(profile->tier(Rank{3}, Rank{2}), (ExchangeTier{3.5, 390}));
}

TEST(ExchangeProfile, RefusesWhatItDoesNotKnow) {
  const struct {
    const char* text;
    const char* field;
  } cases[] = {
      {R"([])", ""},
      {R"({"ranks_per_node": 0})", "ranks_per_node"},
      {R"({"ranks_per_node": "two"})", "ranks_per_node"},
      {R"({"same_node": 3})", "same_node"},
      {R"({"same_node": {"latency_us": -1}})", "same_node.latency_us"},
      {R"({"same_node": {"latency_us": 1e9}})", "same_node.latency_us"},
      {R"({"other_node": {"gb_per_s": null, "gbps": 3}})", "other_node.gbps"},
      {R"({"other_node": {"gb_per_s": [1]}})", "other_node.gb_per_s"},
      {R"({"other_node": {"gb_per_s": 1e-300}})", "other_node.gb_per_s"},
      {R"({"rack": {}})", "rack"},
  };
  for (const auto& [text, field] : cases) {
    const auto profile = parse(text);
    ASSERT_FALSE(profile.ok()) << text;
    EXPECT_EQ(profile.error().field, field) << text;
  }
  EXPECT_FALSE(read_exchange_profile("/no/such/file.json").ok());
}

TEST(ExchangeProfile, ARoundTripTakesTheSlowestOfTheLinksThatAreThere) {
  const ExchangeProfile profile{.ranks_per_node = 2,
                                .same_node = {.latency_us = 5, .gb_per_s = 10},
                                .other_node = {.latency_us = 50, .gb_per_s = 1}};
  // 1 MB there at 10 GB/s, and as much back; latencies are of messages.
  EXPECT_DOUBLE_EQ(profile.round_trip_ms(2, 1e6), 0.2);
  // A third to each of three others, the slow ones at 1 GB/s.
  EXPECT_DOUBLE_EQ(profile.round_trip_ms(4, 3e6), 2);
  const ExchangeProfile apart{.ranks_per_node = 1, .same_node = {.gb_per_s = 1e-3}};
  EXPECT_EQ(apart.round_trip_ms(4, 3e6), 0);  // no limit between nodes, and nobody shares one
  EXPECT_EQ(ExchangeProfile{}.round_trip_ms(64, 1e9), 0);
}

TEST(ExchangeLink, MessagesFollowEachOther) {
  ExchangeLink link({.latency_us = 10, .gb_per_s = 1});
  const TimePoint start{};
  const auto us = [&](TimePoint time) { return to_ms(time - start) * 1e3; };
  EXPECT_DOUBLE_EQ(us(link.send(start, 5000)), 15);  // 5 us of bytes, then the latency
  EXPECT_DOUBLE_EQ(us(link.send(start, 5000)), 20);  // after the first one's bytes
  EXPECT_DOUBLE_EQ(us(link.send(start + from_ms(1), 0)), 1010);
}

TEST(ExchangeLink, WithoutLimitsTakesNothing) {
  ExchangeLink link;
  const TimePoint now = TimePoint{} + from_ms(7);
  EXPECT_EQ(link.send(now, 1e12), now);
}

}  // namespace
}  // namespace gimbal::comm
