#include "cost/routing_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <sstream>

#include "cost/test_routing_shape.h"
#include "sched/routing_record.h"

namespace gimbal::cost {
namespace {

using ::testing::HasSubstr;

double sum(std::span<const float> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

TEST(RoutingModelTest, UniformChoicesAreEquallyLikely) {
  const auto model = RoutingModel::uniform(shape_of(2, 16, 4));
  ASSERT_TRUE(model.ok());
  for (const float p : model->inclusion(LayerIndex{1}, 0))
    EXPECT_NEAR(p, 0.25, 1e-6);
}

TEST(RoutingModelTest, ProbabilitiesSumToTheChoicesOfAToken) {
  for (const double exponent : {0.0, 0.5, 1.0, 2.0}) {
    const auto model =
        RoutingModel::zipf(shape_of(3, 64, 8), {.exponent = exponent, .topics = 2, .seed = 5});
    ASSERT_TRUE(model.ok());
    for (int layer = 0; layer < 3; ++layer)
      for (int topic = 0; topic < 2; ++topic)
        EXPECT_NEAR(sum(model->inclusion(LayerIndex{layer}, topic)), 8, 1e-3);
  }
}

TEST(RoutingModelTest, ExpertsThatAreAllChosenAreCertain) {
  const auto model = RoutingModel::zipf(shape_of(1, 4, 4), {.exponent = 1});
  ASSERT_TRUE(model.ok());
  EXPECT_NEAR(sum(model->inclusion(LayerIndex{0}, 0)), 4, 1e-4);
  Rng rng(1);
  std::vector<std::uint16_t> experts(4);
  for (int i = 0; i < 100; ++i) {
    model->draw(LayerIndex{0}, 0, rng, experts);
    EXPECT_EQ(std::set(experts.begin(), experts.end()).size(), 4U);
  }
}

TEST(RoutingModelTest, TopicsAndLayersDifferInWhatIsPopular) {
  const auto model =
      RoutingModel::zipf(shape_of(2, 64, 4), {.exponent = 1.2, .topics = 2, .seed = 3});
  ASSERT_TRUE(model.ok());
  const auto same = [&](int layer, int topic) {
    const auto a = model->inclusion(LayerIndex{0}, 0);
    const auto b = model->inclusion(LayerIndex{layer}, topic);
    return std::ranges::equal(a, b);
  };
  EXPECT_TRUE(same(0, 0));
  EXPECT_FALSE(same(0, 1));
  EXPECT_FALSE(same(1, 0));
}

TEST(RoutingModelTest, TheSameSeedGivesTheSameModelAndDraws) {
  const ZipfRouting options{.exponent = 1, .topics = 3, .seed = 11};
  const auto a = RoutingModel::zipf(shape_of(2, 32, 4), options);
  const auto b = RoutingModel::zipf(shape_of(2, 32, 4), options);
  ASSERT_TRUE(a.ok() && b.ok());
  Rng rng_a(9);
  Rng rng_b(9);
  std::vector<std::uint16_t> drawn_a(4);
  std::vector<std::uint16_t> drawn_b(4);
  for (int i = 0; i < 200; ++i) {
    a->draw(LayerIndex{i % 2}, i % 3, rng_a, drawn_a);
    b->draw(LayerIndex{i % 2}, i % 3, rng_b, drawn_b);
    ASSERT_EQ(drawn_a, drawn_b);
  }
}

// Draws against the probabilities that the model says. Each is a seeded sample, so the bound is on
// numbers that do not change.
TEST(RoutingModelTest, DrawsAreDistinctAndAsLikelyAsTheModelSays) {
  struct Case {
    int experts;
    int k;
    double exponent;
  };
  for (const Case& c : {Case{128, 8, 0.0}, Case{128, 8, 0.8}, Case{64, 8, 1.2}, Case{8, 2, 0.5},
                        Case{256, 8, 1.0}}) {
    const auto model =
        RoutingModel::zipf(shape_of(1, c.experts, c.k), {.exponent = c.exponent, .seed = 2});
    ASSERT_TRUE(model.ok());
    Rng rng(17);
    constexpr int kTokens = 100'000;
    std::vector<double> seen(static_cast<std::size_t>(c.experts));
    std::vector<std::uint16_t> experts(static_cast<std::size_t>(c.k));
    for (int i = 0; i < kTokens; ++i) {
      model->draw(LayerIndex{0}, 0, rng, experts);
      ASSERT_EQ(std::set(experts.begin(), experts.end()).size(), experts.size());
      for (const std::uint16_t expert : experts)
        seen.at(expert) += 1.0 / kTokens;
    }
    const auto inclusion = model->inclusion(LayerIndex{0}, 0);
    for (std::size_t e = 0; e < seen.size(); ++e) {
      // Four standard deviations of the sample, and what the race leaves out.
      const double noise = 4 * std::sqrt(inclusion[e] / kTokens);
      EXPECT_NEAR(seen[e], inclusion[e], 0.03 * inclusion[e] + noise)
          << c.experts << " experts, " << c.k << " choices, exponent " << c.exponent;
    }
  }
}

std::string record_of(const sched::RoutingRecordHeader& header, int rows_per_layer,
                      const RoutingModel& model) {
  std::ostringstream out;
  sched::RoutingRecordWriter writer(out, header);
  Rng rng(23);
  std::vector<std::uint16_t> drawn(static_cast<std::size_t>(header.k));
  for (int i = 0; i < rows_per_layer; ++i) {
    for (int layer = 0; layer < header.layers; ++layer) {
      if (model.shape().experts_of_layer[static_cast<std::size_t>(layer)] == 0) continue;
      model.draw(LayerIndex{layer}, 0, rng, drawn);
      const std::vector<std::int32_t> experts(drawn.begin(), drawn.end());
      writer.add(RequestId{1}, static_cast<std::uint32_t>(i), Rank{0}, LayerIndex{layer}, experts);
    }
  }
  writer.flush();
  return out.str();
}

TEST(RoutingModelTest, ARecordGivesBackWhatWroteIt) {
  RoutingShape shape = shape_of(3, 32, 4);
  shape.experts_of_layer[1] = 0;
  const auto truth = RoutingModel::zipf(shape, {.exponent = 0.8, .seed = 4});
  ASSERT_TRUE(truth.ok());
  std::istringstream record(record_of({.layers = 3, .experts = 32, .k = 4}, 20'000, *truth));
  const auto model = RoutingModel::recorded(shape, record);
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_TRUE(model->inclusion(LayerIndex{1}, 0).empty());
  for (const int layer : {0, 2}) {
    const auto expected = truth->inclusion(LayerIndex{layer}, 0);
    const auto found = model->inclusion(LayerIndex{layer}, 0);
    for (std::size_t e = 0; e < expected.size(); ++e)
      EXPECT_NEAR(found[e], expected[e], 0.03 * expected[e] + 0.01);
    EXPECT_NEAR(sum(found), 4, 1e-3);
  }
}

TEST(RoutingModelTest, RecordsOfOtherShapesAreRefusedByField) {
  const RoutingShape shape = shape_of(2, 16, 4);
  const auto truth = RoutingModel::uniform(shape);
  ASSERT_TRUE(truth.ok());
  const std::string bytes = record_of({.layers = 2, .experts = 16, .k = 4}, 4, *truth);
  const auto error_for = [&](const RoutingShape& other, const std::string& text) {
    std::istringstream record(text);
    const auto model = RoutingModel::recorded(other, record);
    return model.ok() ? std::string("accepted") : model.error().message;
  };
  EXPECT_EQ(error_for(shape, bytes), "accepted");
  EXPECT_THAT(error_for(shape_of(3, 16, 4), bytes),
              HasSubstr("layers must be the model's 3, is 2"));
  EXPECT_THAT(error_for(shape_of(2, 32, 4), bytes), HasSubstr("experts must be the model's 32"));
  EXPECT_THAT(error_for(shape_of(2, 16, 2), bytes), HasSubstr("k must be the model's 2"));
  EXPECT_THAT(error_for(shape, "no record"), HasSubstr("magic"));
  EXPECT_THAT(error_for(shape, bytes.substr(0, bytes.size() - 1)), HasSubstr("row 7"));
  EXPECT_THAT(error_for(shape, bytes.substr(0, 24)), HasSubstr("rows of layer 0"));
  EXPECT_FALSE(RoutingModel::read_record(shape, "/no/such/record").ok());
}

TEST(RoutingModelTest, WrongOptionsAreNamed) {
  const auto error_for = [](const RoutingShape& shape, const ZipfRouting& options) {
    const auto model = RoutingModel::zipf(shape, options);
    return model.ok() ? std::string("accepted") : model.error().field;
  };
  EXPECT_EQ(error_for(shape_of(1, 8, 2), {.exponent = -0.1}), "exponent");
  EXPECT_EQ(error_for(shape_of(1, 8, 2), {.exponent = std::nan("")}), "exponent");
  EXPECT_EQ(error_for(shape_of(1, 8, 2), {.topics = 0}), "topics");
  EXPECT_EQ(error_for(shape_of(1, 8, 2), {.topics = 65}), "topics");
  EXPECT_EQ(error_for(shape_of(1, 8, 0), {}), "experts_per_token");
  EXPECT_EQ(error_for(shape_of(1, 8, 9), {}), "experts_of_layer");
  EXPECT_EQ(error_for({}, {}), "experts_of_layer");
}

}  // namespace
}  // namespace gimbal::cost
