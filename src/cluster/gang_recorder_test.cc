#include "cluster/gang_recorder.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <sstream>
#include <string>

#include "base/random.h"

namespace gimbal::cluster {
namespace {

constexpr int kRanks = 3;

policy::GangMember random_member(Rng& rng, Rank rank) {
  policy::GangMember member{.rank = rank, .decodes = static_cast<int>(rng.below(20))};
  member.want = static_cast<int>(rng.below(50));
  member.most = member.want + static_cast<int>(rng.below(50));
  member.max_rows = 200;
  member.latency_sensitive = rng.below(3) != 0;
  if (rng.below(3) == 0) return member;
  member.times.emplace();
  member.times->coefficients.attention = {rng.uniform(), rng.uniform(), 0.1, 0, 0};
  member.times->experts = {.experts = 64, .choices_per_row = 4};
  return member;
}

// Ranks that say anything. Returns the record.
std::string random_gang(std::uint64_t seed, GangPace pace) {
  std::ostringstream out;
  GangRecorder recorder(out);
  GangRules rules;
  rules.coordinator = {.pace = pace, .ranks = kRanks, .layers = 4};
  rules.planner = seed % 2 == 0 ? "pairing" : "as-wanted";
  recorder.header(rules);
  const auto planner = policy::make_gang_planner(rules.planner, rules.planner_options).value();
  GangCoordinator coordinator(rules.coordinator, *planner);
  Rng rng(seed);
  std::array<std::uint64_t, kRanks> seen{};
  std::vector<GangCommand> commands;
  TimePoint now{};
  for (int i = 0; i < 400; ++i) {
    now += from_ms(2 * rng.uniform());
    const Rank rank{static_cast<int>(rng.below(kRanks))};
    const std::uint64_t last = seen[static_cast<std::size_t>(rank.value())];
    GangEvent event = GangTimer{};
    const std::uint64_t dice = rng.below(100);
    if (dice < 50) event = GangIntent{random_member(rng, rank), last};
    if (dice >= 50 && dice < 70) event = GangStepEnded{rank, last, rng.below(3) != 0};
    if (dice >= 70 && dice < 80)
      event = GangLeft{rank, last, static_cast<LeaveReason>(rng.below(kLeaveReasons))};
    if (dice >= 80 && dice < 88) event = GangIdle{rank, last};
    if (i == 390) event = GangRankDead{rank};
    coordinator.on(event, now, commands);
    recorder.event(event, now, commands);
    for (const GangCommand& command : commands) {
      if (const auto* start = std::get_if<GangStart>(&command))
        seen[static_cast<std::size_t>(start->rank.value())] = start->number;
      if (const auto* solo = std::get_if<GangSolo>(&command))
        seen[static_cast<std::size_t>(solo->rank.value())] = solo->number;
    }
  }
  return std::move(out).str();
}

Result<GangReplay> replay_text(const std::string& text) {
  std::istringstream in(text);
  return replay_gang(in);
}

TEST(GangRecorderTest, ARecordReplaysCommandForCommand) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    for (const GangPace pace : {GangPace::kGang, GangPace::kLockstep, GangPace::kImmediate}) {
      const auto replay = replay_text(random_gang(seed, pace));
      ASSERT_TRUE(replay.ok()) << replay.error().message << " seed " << seed;
      EXPECT_EQ(replay->events, 400U);
      EXPECT_GT(replay->commands, 20U);
    }
  }
}

TEST(GangRecorderTest, OtherOptionsCommandOtherwise) {
  std::string text = random_gang(2, GangPace::kGang);
  const std::string patience = "\"patience\":8.0";
  ASSERT_NE(text.find(patience), std::string::npos) << text.substr(0, 500);
  text.replace(text.find(patience), patience.size(), "\"patience\":0.0");
  const auto replay = replay_text(text);
  ASSERT_FALSE(replay.ok());
  EXPECT_NE(replay.error().message.find("commands otherwise"), std::string::npos)
      << replay.error().message;
}

TEST(GangRecorderTest, ReplaysARecordThatWasCutOff) {
  const std::string text = random_gang(3, GangPace::kGang);
  for (std::size_t length = text.find('\n') + 1; length < text.size(); length += 997) {
    const auto replay = replay_text(text.substr(0, length));
    EXPECT_TRUE(replay.ok()) << replay.error().message << " length " << length;
  }
}

TEST(GangRecorderTest, HostileRecordsAreErrors) {
  const std::string good = random_gang(4, GangPace::kGang);
  const std::string header = good.substr(0, good.find('\n') + 1);
  for (const std::string& line : {
           std::string("[]"),
           std::string("{}"),
           std::string(R"({"now":1,"event":"dance","value":{},"commands":[]})"),
           std::string(R"({"now":-1,"event":"timer","value":{},"commands":[]})"),
           std::string(R"({"now":1,"event":"timer","value":[],"commands":[]})"),
           std::string(R"({"now":1,"event":"dead","value":{"rank":3},"commands":[]})"),
           std::string(R"({"now":1,"event":"dead","value":{"rank":-1},"commands":[]})"),
           std::string(R"({"now":1,"event":"left","value":{"rank":1,"reason":9},"commands":[]})"),
           std::string(R"({"now":1,"event":"intent","value":{"last_seen":7},"commands":[]})"),
           std::string(R"({"now":1,"event":"intent","value":{"member":{"want":3}},"commands":[]})"),
           std::string(R"({"now":1,"event":"timer","value":{},"commands":[1]})"),
       }) {
    const auto replay = replay_text(header + line + "\n");
    ASSERT_FALSE(replay.ok()) << line;
    EXPECT_EQ(replay.error().message.find("line 2: "), 0U) << replay.error().message;
  }
  for (const std::string text :
       {"", "{}", R"({"gang_record":9,"rules":{}})", R"({"gang_record":1,"rules":{}})",
        R"({"gang_record":1,"rules":{"coordinator":{"ranks":99}}})",
        R"({"gang_record":1,"rules":{"coordinator":{"ranks":2},"planner":"fair"}})"}) {
    EXPECT_FALSE(replay_text(text).ok()) << text;
  }
}

TEST(GangRecorderTest, SurvivesRandomDamage) {
  const std::string text = random_gang(6, GangPace::kGang);
  Rng rng(4);
  int refused = 0;
  for (int round = 0; round < 200; ++round) {
    std::string damaged = text;
    for (auto i = rng.below(3) + 1; i > 0; --i)
      damaged[rng.below(damaged.size())] = "0123456789,:[]{}\"-ntf"[rng.below(21)];
    refused += replay_text(damaged).ok() ? 0 : 1;  // and does not crash
  }
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace gimbal::cluster
