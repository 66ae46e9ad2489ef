#include "cluster/expert_json.h"

#include <gtest/gtest.h>

#include "cluster/fake_inspector.h"

namespace gimbal::cluster {
namespace {

TEST(ExpertJson, DescribesGroups) {
  const FakeInspector inspector;
  const Json json = experts_to_json(inspector);
  const Json& first = json["groups"][0];
  EXPECT_EQ(first["pace"], "gang");
  EXPECT_EQ(first["map_version"], 4);
  EXPECT_DOUBLE_EQ(first["balancedness"].get<double>(), 20.0 / 30.0);
  EXPECT_EQ(first["rows"][0].size(), 0U);
  EXPECT_EQ(first["rows"][1][2], 2 + 12 + 102 + 112);
  EXPECT_EQ(first["map"]["layers"][1].size(), 3U);
  EXPECT_EQ(json["groups"][1]["services"][1]["alive"], false);
}

TEST(ExpertJson, SwapsTheMapOfAGroup) {
  FakeInspector inspector;
  const std::string body =
      R"({"group": 1, "version": 9, "layers": [[], [{"expert": 0, "rank": 0}, {"expert": 1, "rank": 0},
          {"expert": 2, "rank": 0, "fraction": 0.25}, {"expert": 2, "rank": 1, "fraction": 0.75}]]})";
  const auto answer = swap_expert_map(inspector, *parse_json(body));
  ASSERT_TRUE(answer.ok()) << answer.error().message;
  EXPECT_EQ(answer->dump(), R"({"group":1,"version":5})");
  ASSERT_TRUE(inspector.swapped);
  EXPECT_EQ(inspector.swapped->first, 1U);
  EXPECT_EQ(inspector.swapped->second.shares(LayerIndex{1}, ExpertId{2}).size(), 2U);
}

TEST(ExpertJson, RefusesBodiesThatAreNoMaps) {
  FakeInspector inspector;
  for (const char* body :
       {"[]", "3", R"({"version": 1})", R"({"group": 2, "version": 1, "layers": [[], []]})",
        R"({"group": -1, "version": 1, "layers": [[], []]})",
        R"({"group": "a", "version": 1, "layers": [[], []]})",
        R"({"version": 1, "layers": [[], []]})",
        R"({"version": 1, "layers": [[], [{"expert": 0, "rank": 9}]]})"}) {
    EXPECT_FALSE(swap_expert_map(inspector, *parse_json(body)).ok()) << body;
  }
  EXPECT_FALSE(inspector.swapped);
  inspector.groups.clear();
  EXPECT_FALSE(swap_expert_map(inspector, *parse_json(R"({"version": 1, "layers": []})")).ok());
}

}  // namespace
}  // namespace gimbal::cluster
