#include "loadgen/gauge_series.h"

#include <gtest/gtest.h>

#include <vector>

namespace gimbal::loadgen {
namespace {

using std::chrono::milliseconds;

TEST(GaugeSeries, KeepsWhatChangesAndWhatIsOfAnEngine) {
  const std::vector<GaugeMoment> moments{{milliseconds(0),
                                          {{"running{engine=\"0\"}", 1.0},
                                           {"running{model=\"a\", engine=\"1\"}", 0.0},
                                           {"depth", 3.0},
                                           {"limit", 8.0},
                                           {"info{model=\"{engine=\\\"\"}", 1.0}}},
                                         {milliseconds(500),
                                          {{"running{engine=\"0\"}", 2.0},
                                           {"running{model=\"a\", engine=\"1\"}", 0.0},
                                           {"depth", 3.0},
                                           {"limit", 8.0},
                                           {"info{model=\"{engine=\\\"\"}", 1.0},
                                           {"late", 1.0}}},
                                         {milliseconds(1000), {{"depth", 4.0}}}};
  const auto samples = gauges_over_time(moments);
  EXPECT_EQ(samples["times"], (std::vector<double>{0.0, 0.5, 1.0}));
  const auto& gauges = samples["gauges"];
  EXPECT_EQ(gauges["running{engine=\"0\"}"], (nlohmann::json{1.0, 2.0, nullptr}));
  EXPECT_EQ(gauges["depth"], (nlohmann::json{3.0, 3.0, 4.0}));
  EXPECT_EQ(gauges["late"], (nlohmann::json{nullptr, 1.0, nullptr}));
  EXPECT_TRUE(gauges.contains("running{model=\"a\", engine=\"1\"}"));
}

TEST(GaugeSeries, AnIdleEngineStaysAndAConstantGoes) {
  const std::map<std::string, double> page{{"running{engine=\"1\",model=\"m\"}", 0.0},
                                           {"limit", 8.0},
                                           {"search_engine{my_engine=\"1\"}", 2.0},
                                           {"info{model=\"{engine=\\\"\"}", 1.0}};
  const std::vector<GaugeMoment> moments{{milliseconds(0), page}, {milliseconds(1), page}};
  const auto gauges = gauges_over_time(moments)["gauges"];
  ASSERT_EQ(gauges.size(), 1u);
  EXPECT_EQ(gauges["running{engine=\"1\",model=\"m\"}"], (nlohmann::json{0.0, 0.0}));
}

TEST(GaugeSeries, OfNothingIsEmpty) {
  const auto samples = gauges_over_time({});
  EXPECT_TRUE(samples["times"].empty());
  EXPECT_TRUE(samples["gauges"].is_object());
}

}  // namespace
}  // namespace gimbal::loadgen
