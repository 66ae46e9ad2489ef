#include "policy/expert_map_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/random.h"

namespace gimbal::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const ExpertMapShape kShape{.experts_of_layer = {0, 2}, .ranks = 2};

Result<ExpertMap> read(std::string_view text, const ExpertMapShape& shape = kShape) {
  GIMBAL_ASSIGN_OR_RETURN(const Json json, parse_json(text));
  return expert_map_from_json(json, shape);
}

TEST(ExpertMapJson, ReadsAMap) {
  const auto map = read(R"({"version": 7, "layers": [[], [
      {"expert": 1, "rank": 0, "fraction": 0.25}, {"expert": 0, "rank": 1},
      {"expert": 1, "rank": 1, "fraction": 0.75}]]})");
  ASSERT_TRUE(map.ok()) << map.error().message;
  EXPECT_EQ(map->version(), 7u);
  EXPECT_THAT(map->shares(LayerIndex{1}, ExpertId{0}), ElementsAre(ExpertShare{Rank{1}, 1}));
  EXPECT_THAT(map->shares(LayerIndex{1}, ExpertId{1}),
              ElementsAre(ExpertShare{Rank{0}, 0.25}, ExpertShare{Rank{1}, 0.75}));
}

TEST(ExpertMapJson, EntriesWithoutFractionsSplitEqually) {
  const auto map = read(R"({"version": 0, "layers": [[
      {"expert": 0, "rank": 2}, {"expert": 0, "rank": 0}, {"expert": 0, "rank": 1}]]})",
                        ExpertMapShape::uniform(1, 1, 3));
  ASSERT_TRUE(map.ok()) << map.error().message;
  for (const ExpertShare& share : map->shares(LayerIndex{0}, ExpertId{0}))
    EXPECT_DOUBLE_EQ(share.fraction, 1.0 / 3);
}

TEST(ExpertMapJson, WhatIsWrittenReadsBackTheSame) {
  Rng rng(3);
  for (int trial = 0; trial < 50; ++trial) {
    const ExpertMapShape shape{.experts_of_layer = {3, 0, 5}, .ranks = 4};
    std::vector<ExpertPlacement> entries;
    for (const int layer : {0, 2}) {
      for (int expert = 0; expert < shape.experts_of_layer[static_cast<std::size_t>(layer)];
           ++expert) {
        const double first = 0.001 + 0.99 * rng.uniform();
        const int rank = static_cast<int>(rng.below(4));
        entries.push_back({LayerIndex{layer}, ExpertId{expert}, Rank{rank}, first});
        entries.push_back({LayerIndex{layer}, ExpertId{expert}, Rank{(rank + 1) % 4}, 1 - first});
      }
    }
    const ExpertMap map =
        ExpertMap::make(shape, static_cast<std::uint32_t>(rng.below(kMostMapVersion)), entries)
            .value();
    const auto back = read(expert_map_to_json(map).dump(), shape);
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(*back, map);
  }
}

TEST(ExpertMapJson, ErrorsNameLayerExpertFieldAndValue) {
  struct Case {
    std::string layer;  // the entries of layer 1
    std::string field;
    std::vector<std::string> message;
  };
  const std::string other = R"(, {"expert": 1, "rank": 0})";
  const std::vector<Case> cases = {
      {R"({"expert": 0, "rank": 2})" + other,
       "layers[1][0].rank",
       {"layer 1, expert 0", "rank must be an integer from 0 to 1, is 2"}},
      {R"({"expert": 0, "rank": "a"})" + other, "layers[1][0].rank", {"expert 0", R"(is "a")"}},
      {R"({"expert": 0})" + other, "layers[1][0].rank", {"layer 1, expert 0", "absent"}},
      {R"({"rank": 0})" + other, "layers[1][0].expert", {"absent"}},
      {R"({"expert": 2, "rank": 0})" + other, "layers[1][0].expert", {"from 0 to 1, is 2"}},
      {R"({"expert": -1, "rank": 0})" + other, "layers[1][0].expert", {"is -1"}},
      {R"({"expert": 0.5, "rank": 0})" + other, "layers[1][0].expert", {"is 0.5"}},
      {R"({"expert": 99999999999999999999, "rank": 0})" + other, "layers[1][0].expert", {"is 1"}},
      {R"({"expert": 0, "rank": 0, "fraction": 0})" + other,
       "layers[1][0].fraction",
       {"layer 1, expert 0", "above 0 and at most 1, is 0"}},
      {R"({"expert": 0, "rank": 0, "fraction": 1.01})" + other,
       "layers[1][0].fraction",
       {"is 1.01"}},
      {R"({"expert": 0, "rank": 0, "fraction": "1"})" + other,
       "layers[1][0].fraction",
       {R"(is "1")"}},
      {R"({"expert": 0, "rank": 0, "fraction": 0.5})" + other,
       "fraction",
       {"layer 1, expert 0", "sums to 0.5"}},
      {R"({"expert": 0, "rank": 0, "fraction": 0.5}, {"expert": 0, "rank": 1})" + other,
       "fraction",
       {"layer 1, expert 0", "absent for rank 1"}},
      {R"({"expert": 0, "rank": 1}, {"expert": 0, "rank": 1})" + other,
       "rank",
       {"layer 1, expert 0", "twice: 1"}},
      {R"({"expert": 0, "rank": 0})", "rank", {"layer 1, expert 1", "is on no rank"}},
      {R"({"expert": 0, "rank": 0, "weight": 1})" + other,
       "layers[1][0].weight",
       {"layer 1, expert 0", "unknown field"}},
      {R"(7)", "layers[1][0]", {"must be an object, is 7"}},
      {R"([])", "layers[1][0]", {"must be an object, is []"}},
  };
  for (const Case& wrong : cases) {
    const auto map = read(R"({"version": 1, "layers": [[], [)" + wrong.layer + "]]}");
    ASSERT_FALSE(map.ok()) << wrong.layer;
    EXPECT_EQ(map.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(map.error().field, wrong.field) << wrong.layer;
    for (const std::string& part : wrong.message)
      EXPECT_THAT(map.error().message, HasSubstr(part)) << wrong.layer;
  }
}

TEST(ExpertMapJson, ErrorsNameWhatIsWrongAroundTheEntries) {
  const std::string layers = R"([[], [{"expert": 0, "rank": 0}, {"expert": 1, "rank": 0}]])";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"([])", ""},
      {R"({"layers": )" + layers + "}", "version"},
      {R"({"version": -1, "layers": )" + layers + "}", "version"},
      {R"({"version": 2147483648, "layers": )" + layers + "}", "version"},
      {R"({"version": 1})", "layers"},
      {R"({"version": 1, "layers": {}})", "layers"},
      {R"({"version": 1, "layers": []})", "layers"},
      {R"({"version": 1, "layers": [[], [], []]})", "layers"},
      {R"({"version": 1, "layers": [[], {}]})", "layers[1]"},
      {R"({"version": 1, "layers": [[], null]})", "layers[1]"},
      {R"({"version": 1, "layers": [[{"expert": 0, "rank": 0}], []]})", "layers[0]"},
      {R"({"version": 1, "ranks": 2, "layers": )" + layers + "}", "ranks"},
  };
  for (const auto& [text, field] : cases) {
    const auto map = read(text);
    ASSERT_FALSE(map.ok()) << text;
    EXPECT_EQ(map.error().field, field) << text;
  }
  EXPECT_TRUE(read(R"({"version": 2147483647, "layers": )" + layers + "}").ok());
}

}  // namespace
}  // namespace gimbal::policy
