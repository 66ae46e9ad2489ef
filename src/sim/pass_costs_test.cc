#include "sim/pass_costs.h"

#include <gtest/gtest.h>

#include "sim/testbed_fixture.h"

namespace gimbal::sim {
namespace {

class PassCostsTest : public ::testing::Test {
 protected:
  void use(std::vector<bool> layer_is_moe, int devices, int tp = 1) {
    cost::ModelShape shape = plain_model();
    shape.layer_is_moe = std::move(layer_is_moe);
    model_.emplace(cost::CostModel::make(shape, plain_profile(), tp).value());
    const policy::ExpertMapShape map{.experts_of_layer = shape.experts_of_layer(),
                                     .ranks = devices};
    const auto routing = cost::RoutingModel::uniform(
                             {.experts_of_layer = shape.experts_of_layer(), .experts_per_token = 2})
                             .value();
    loads_.emplace(routing, policy::ExpertMap::linear(map, 1));
    costs_.emplace(*model_, *loads_, cost::Tier::kSameNode);
  }
  ExpertTimes experts(double tokens) {
    const double all[] = {tokens};
    return costs_->experts(all, tokens, by_device_);
  }

  std::optional<cost::CostModel> model_;
  std::optional<cost::ExpertLoadTable> loads_;
  std::optional<PassCosts> costs_;
  std::vector<cost::ExpertLoad> by_device_;
};

TEST_F(PassCostsTest, OneDeviceExchangesNothing) {
  use({true, true, true, true}, 1);
  const ExpertTimes times = experts(10);
  EXPECT_DOUBLE_EQ(times.exchange, 0);
  EXPECT_NEAR(times.service, 0.05, 1e-9);
  EXPECT_NEAR(times.rows, 20, 1e-3);
  EXPECT_EQ(by_device_.size(), 1U);
}

TEST_F(PassCostsTest, SeveralExchangeTwiceALayer) {
  use({true, true, true, true}, 2);
  const ExpertTimes times = experts(10);
  EXPECT_NEAR(times.exchange, 0.01, 1e-6);
  EXPECT_NEAR(times.rows, 20, 1e-3);
  EXPECT_NEAR(by_device_[0].rows, 10, 1e-2);
}

TEST_F(PassCostsTest, NoRowsTakeNoTime) {
  use({true, true}, 2);
  EXPECT_DOUBLE_EQ(experts(0).ms(), 0);
  use({false, false}, 1);
  EXPECT_DOUBLE_EQ(experts(5).ms(), 0);
}

TEST_F(PassCostsTest, ASlowDeviceHoldsAllUp) {
  use({true, true}, 2);
  costs_->set_factor(Rank{1}, 3);
  EXPECT_NEAR(experts(10).service, 0.15, 1e-9);
  EXPECT_NEAR(costs_->attention_ms(Rank{1}, {.decodes = 1}), 0.33, 1e-9);
  EXPECT_NEAR(costs_->attention_ms(Rank{0}, {.decodes = 1}), 0.11, 1e-9);
  EXPECT_NEAR(costs_->step_ms(Rank{1}, {.decodes = 1}), 3, 1e-9);
}

TEST_F(PassCostsTest, RanksOfSeveralDevicesSpreadTheExpertsOverAll) {
  use({true, true}, 4, 2);
  EXPECT_EQ(costs_->ranks(), 2);
  EXPECT_EQ(costs_->devices(), 4);
  costs_->set_factor(Rank{1}, 3);  // its two devices
  EXPECT_NEAR(experts(100).service, 0.15, 1e-9);
  EXPECT_NEAR(costs_->service_ms(1, by_device_[1]), 0.05, 1e-9);
  EXPECT_NEAR(costs_->service_ms(2, by_device_[2]), 0.15, 1e-9);
}

TEST_F(PassCostsTest, AShapeKnowsWhereStagesBegin) {
  use({false, true, true}, 1);
  const ExpertTimes experts{.service = 3, .exchange = 1};
  const PassShape shape(*costs_, 10, 6, experts);
  EXPECT_DOUBLE_EQ(shape.begin_of(0), 0);
  EXPECT_DOUBLE_EQ(shape.begin_of(2), 3);  // a dense layer's second half
  EXPECT_DOUBLE_EQ(shape.begin_of(3), 6);
  EXPECT_DOUBLE_EQ(shape.begin_of(4), 15);  // the router
  EXPECT_DOUBLE_EQ(shape.begin_of(5), 16);  // the experts
  EXPECT_DOUBLE_EQ(shape.begin_of(6), 20);
  EXPECT_DOUBLE_EQ(shape.total(), 34);
  for (int stage = 0; stage < 9; ++stage) {
    EXPECT_EQ(shape.stage_at(shape.begin_of(stage) + 1e-9), stage == 1 ? 2 : stage) << stage;
  }
  EXPECT_EQ(shape.stage_at(34), 9);
  EXPECT_DOUBLE_EQ(shape.moe_layers_at(6), 0);
  EXPECT_DOUBLE_EQ(shape.moe_layers_at(13), 0.5);
  EXPECT_DOUBLE_EQ(shape.moe_layers_at(34), 2);
  EXPECT_DOUBLE_EQ(shape.dense_layers_at(3), 0.5);
  EXPECT_DOUBLE_EQ(shape.dense_layers_at(34), 1);
}

TEST_F(PassCostsTest, APlaceStaysTheSamePlaceInAnotherShape) {
  use({false, true, true}, 1);
  const PassShape slow(*costs_, 20, 12, {.service = 8});
  const PassShape fast(*costs_, 10, 6, {.service = 4});
  EXPECT_DOUBLE_EQ(slow.moved_to(fast, 0), 0);
  EXPECT_DOUBLE_EQ(slow.moved_to(fast, 21), 10.5);
  EXPECT_DOUBLE_EQ(slow.moved_to(fast, slow.total()), fast.total());
}

}  // namespace
}  // namespace gimbal::sim
