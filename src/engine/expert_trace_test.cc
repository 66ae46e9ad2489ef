#include "engine/expert_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "base/json.h"

namespace gimbal::engine {
namespace {

using testing::ElementsAre;

class ExpertTraceTest : public testing::Test {
 protected:
  static TimePoint at(int us) { return TimePoint{std::chrono::microseconds(us)}; }
  // A queue that is run whole, behind those that `run` has.
  static void add(sched::ExpertRun& run, int layer, int expert, int rows, int oldest_us) {
    run.groups.push_back({.layer = LayerIndex{layer},
                          .expert = ExpertId{expert},
                          .first = static_cast<int>(run.entries.size()),
                          .count = rows,
                          .oldest = at(oldest_us)});
    run.entries.resize(run.entries.size() + static_cast<std::size_t>(rows));
  }
  // "X run 30 40 {…}": all but names of lines.
  std::vector<std::string> drawn() {
    EXPECT_TRUE(trace_.finish().ok());
    const auto json = parse_json(out_.str());
    EXPECT_TRUE(json.ok());
    std::vector<std::string> events;
    for (const Json& event : (*json)["traceEvents"]) {
      const std::string phase = event["ph"];
      if (phase == "M") continue;
      std::string text = phase + " " + event["name"].get<std::string>() + " " +
                         std::to_string(event["ts"].get<int>());
      if (phase == "X") text += " " + std::to_string(event["dur"].get<int>());
      if (event.contains("args")) text += " " + event["args"].dump();
      events.push_back(text);
      if (phase != "X")
        ids_.push_back(std::to_string(event["pid"].get<int>()) + " " +
                       event["id2"]["local"].get<std::string>());
    }
    return events;
  }

  std::ostringstream out_;
  Trace trace_{out_};
  std::vector<std::string> ids_;  // "process id" of spans, as drawn
};

TEST_F(ExpertTraceTest, ARunHasASpanForEachLayerFromItsOldestRow) {
  ExpertTrace experts;
  experts.set(trace_, trace_.add_process("experts"));
  sched::ExpertRun run;
  add(run, 1, 4, 3, 3'000);
  add(run, 1, 2, 1, 1'000);
  add(run, 7, 0, 2, 4'500);
  experts.ran(run, at(5'000), at(6'000));
  EXPECT_THAT(drawn(),
              ElementsAre("X run 5000 1000 {\"experts\":3,\"rows\":6}",
                          "b queue 1000 {\"layer\":1,\"mean_ms\":3,\"queues\":2,\"rows\":4}",
                          "e queue 5000",
                          "b queue 4500 {\"layer\":7,\"mean_ms\":0.5,\"queues\":1,\"rows\":2}",
                          "e queue 5000"));
}

TEST_F(ExpertTraceTest, SpansOfServicesAreToldApartByTheirNumbers) {
  std::vector<ExpertTrace> services(2);
  sched::ExpertRun run;
  add(run, 0, 0, 1, 1);
  for (ExpertTrace& service : services) {
    service.set(trace_, trace_.add_process("experts"));
    for (int i = 0; i < 2; ++i)
      service.ran(run, at(2), at(3));
  }
  EXPECT_EQ(drawn().size(), 4U * 3);
  EXPECT_THAT(ids_,
              ElementsAre("1 0x1", "1 0x1", "1 0x2", "1 0x2", "2 0x1", "2 0x1", "2 0x2", "2 0x2"));
}

TEST_F(ExpertTraceTest, WithoutATraceNothingIsDrawn) {
  sched::ExpertRun run;
  add(run, 0, 0, 1, 1);
  ExpertTrace().ran(run, at(2), at(3));
  EXPECT_TRUE(drawn().empty());
}

}  // namespace
}  // namespace gimbal::engine
