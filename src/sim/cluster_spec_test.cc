#include "sim/cluster_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "base/temporary_folder.h"

namespace gimbal::sim {
namespace {

using ::testing::HasSubstr;

Result<ClusterSpec> parse(const std::string& text) {
  auto json = parse_json(text);
  if (!json.ok()) return json.error();
  return cluster_from_json(*json);
}

TEST(ClusterSpecTest, ReadsAllFields) {
  const auto spec = parse(R"({
    "groups": [{"count": 2, "ranks": 8, "attention_tp": 2, "profile": "h100",
                "tier": "other_node", "speed": 0.5, "kv_cache_memory_bytes": 1000000},
               {"ranks": 1}],
    "signals": {"delay_ms": 5, "jitter_ms": 1.5, "loss": 0.25},
    "events": [{"at_s": 10, "fail": 3, "noticed_after_s": 2}, {"at_s": 20, "slow": 16, "factor": 2},
               {"start": 7}, {"at_s": 1, "stop": 0}]})");
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->engines(), 17);
  const GroupSpec first{.count = 2,
                        .ranks = 8,
                        .attention_tp = 2,
                        .profile = "h100",
                        .tier = cost::Tier::kOtherNode,
                        .speed = 0.5,
                        .kv_cache_bytes = 1'000'000};
  EXPECT_EQ(spec->groups[0], first);
  EXPECT_EQ(spec->groups[1], GroupSpec{});
  EXPECT_EQ(spec->signals.delay, from_ms(5));
  EXPECT_EQ(spec->signals.jitter, from_ms(1.5));
  EXPECT_DOUBLE_EQ(spec->signals.loss, 0.25);
  ASSERT_EQ(spec->script.size(), 4U);
  EXPECT_EQ(spec->script[0].kind, ScriptEvent::Kind::kFail);
  EXPECT_EQ(spec->script[0].engine, EngineId{3});
  EXPECT_EQ(spec->script[0].at, from_ms(10'000));
  EXPECT_EQ(spec->script[0].noticed_after, from_ms(2000));
  EXPECT_EQ(spec->script[1].kind, ScriptEvent::Kind::kSlow);
  EXPECT_DOUBLE_EQ(spec->script[1].factor, 2);
  EXPECT_EQ(spec->script[2].kind, ScriptEvent::Kind::kStart);
  EXPECT_EQ(spec->script[3].kind, ScriptEvent::Kind::kStop);
}

TEST(ClusterSpecTest, NamesWhatIsWrong) {
  const struct {
    const char* text;
    const char* complaint;
  } kCases[] = {
      {"[]", "object"},
      {"{}", "groups must be a list"},
      {R"({"groups": []})", "groups must be a list"},
      {R"({"groups": {}})", "groups must be a list"},
      {R"({"groups": [1]})", "groups[0]"},
      {R"({"groups": [{"ranks": 0}]})", "groups[0].ranks"},
      {R"({"groups": [{"ranks": 65}]})", "groups[0].ranks"},
      {R"({"groups": [{"ranks": 1.5}]})", "groups[0].ranks"},
      {R"({"groups": [{"count": 65537}]})", "groups[0].count"},
      {R"({"groups": [{"count": 65536, "ranks": 64}]})", "at most 65536 engines"},
      {R"({"groups": [{"tier": "moon"}]})", "groups[0].tier must be same_node or other_node"},
      {R"({"groups": [{"tier": "own_rank"}]})", "groups[0].tier"},
      {R"({"groups": [{"speed": 0}]})", "groups[0].speed"},
      {R"({"groups": [{"speed": "fast"}]})", "\"fast\""},
      {R"({"groups": [{}, {"sped": 2}]})", "groups[1].sped is not a field"},
      {R"({"groups": [{}], "signals": 3})", "signals"},
      {R"({"groups": [{}], "signals": {"loss": 2}})", "signals.loss"},
      {R"({"groups": [{}], "signals": {"delay": 2}})", "signals.delay is not a field"},
      {R"({"groups": [{}], "events": {}})", "events must be a list"},
      {R"({"groups": [{}], "events": [{"at_s": 1}]})", "events[0] must have exactly one"},
      {R"({"groups": [{}], "events": [{"fail": 0, "stop": 0}]})", "has 2"},
      {R"({"groups": [{}], "events": [{"fail": 1}]})", "events[0].fail"},
      {R"({"groups": [{}], "events": [{"fail": 0, "factor": 2}]})", "events[0].factor is not"},
      {R"({"groups": [{}], "events": [{"at_s": -1, "fail": 0}]})", "events[0].at_s"},
      {R"({"groups": [{}], "engines": 3})", "engines is not a field"},
  };
  for (const auto& each : kCases) {
    const auto spec = parse(each.text);
    ASSERT_FALSE(spec.ok()) << each.text;
    EXPECT_EQ(spec.error().code, ErrorCode::kInvalidArgument) << each.text;
    EXPECT_THAT(spec.error().message, HasSubstr(each.complaint)) << each.text;
  }
}

TEST(ClusterSpecTest, AFilesErrorsNameItAndTheLine) {
  const TemporaryFolder folder;
  const std::string path = folder.path("cluster.json");
  std::ofstream(path) << "{\n \"groups\": [\n  {},\n  {\"ranks\": 4,\n   \"speed\": -1}]}\n";
  const auto spec = read_cluster_spec(path);
  ASSERT_FALSE(spec.ok());
  EXPECT_THAT(spec.error().message, HasSubstr(path + ":5: groups[1].speed"));
  std::ofstream(path) << "{\"groups\": [";
  EXPECT_THAT(read_cluster_spec(path).error().message, HasSubstr(path));
  std::remove(path.c_str());
  EXPECT_EQ(read_cluster_spec(path).error().code, ErrorCode::kNotFound);
}

TEST(ClusterSpecTest, EnginesAreDividedAsServeDividesThem) {
  EXPECT_EQ(uniform_cluster(16, 0)->groups, (std::vector<GroupSpec>{{.count = 1, .ranks = 16}}));
  EXPECT_EQ(uniform_cluster(16, 4)->groups, (std::vector<GroupSpec>{{.count = 4, .ranks = 4}}));
  EXPECT_EQ(uniform_cluster(16, 1)->groups, (std::vector<GroupSpec>{{.count = 16, .ranks = 1}}));
  for (const auto& [engines, size] : {std::pair{16, 3}, {0, 0}, {128, 0}, {4, -1}, {65'537, 1}}) {
    EXPECT_FALSE(uniform_cluster(engines, size).ok()) << engines << " " << size;
  }
}

}  // namespace
}  // namespace gimbal::sim
