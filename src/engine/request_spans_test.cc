#include "engine/request_spans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "base/json.h"

namespace gimbal::engine {
namespace {

using testing::ElementsAre;

class RequestSpansTest : public testing::Test {
 protected:
  static TimePoint at(int us) { return TimePoint{std::chrono::microseconds(us)}; }
  static std::vector<sched::Event> submitted(std::vector<RequestId> ids) {
    sched::SubmitGroup group;
    for (const RequestId id : ids)
      group.requests.emplace_back().id = id;
    std::vector<sched::Event> events;
    events.emplace_back(std::move(group));
    return events;
  }
  static std::vector<cluster::TokenOutput> token(RequestId id) {
    std::vector<cluster::TokenOutput> outputs(1);
    outputs[0].request = id;
    outputs[0].token = 5;
    return outputs;
  }
  static std::vector<cluster::TokenOutput> finish(RequestId id) {
    std::vector<cluster::TokenOutput> outputs(1);
    outputs[0].request = id;
    outputs[0].finish = sched::FinishReason::kLength;
    return outputs;
  }

  // "b queued 0": what began or ended of a request, and when.
  std::vector<std::string> drawn(RequestId id) {
    EXPECT_TRUE(trace_.finish().ok());
    const auto json = parse_json(out_.str());
    EXPECT_TRUE(json.ok());
    std::vector<std::string> events;
    for (const Json& event : (*json)["traceEvents"]) {
      const std::string phase = event["ph"];
      if (phase != "b" && phase != "e") continue;
      if (std::stoull(event["id2"]["local"].get<std::string>(), nullptr, 0) != id.value()) continue;
      events.push_back(phase + " " + event["name"].get<std::string>() + " " +
                       std::to_string(event["ts"].get<int>()));
    }
    return events;
  }

  std::ostringstream out_;
  Trace trace_{out_};
  RequestSpans spans_{trace_, trace_.add_track(trace_.add_process("engine"), "requests")};
  const RequestId one_{1};
  const RequestId two_{2};
};

TEST_F(RequestSpansTest, DrawsQueuedPrefillAndDecode) {
  spans_.arrived(submitted({one_}), at(1));
  spans_.admitted(std::vector{one_}, at(2));
  spans_.told(token(one_), at(3));
  spans_.told(token(one_), at(4));
  spans_.told(finish(one_), at(5));
  EXPECT_THAT(drawn(one_), ElementsAre("b queued 1", "e queued 2", "b prefill 2", "e prefill 3",
                                       "b decode 3", "e decode 5"));
}

TEST_F(RequestSpansTest, AnEvictedRequestIsQueuedAgain) {
  spans_.arrived(submitted({one_}), at(1));
  spans_.admitted(std::vector{one_}, at(2));
  spans_.told(token(one_), at(3));  // of the step before it is evicted
  spans_.evicted(std::vector{one_}, at(3));
  spans_.admitted(std::vector{one_}, at(6));
  spans_.told(token(one_), at(7));
  spans_.told(finish(one_), at(8));
  EXPECT_THAT(drawn(one_), ElementsAre("b queued 1", "e queued 2", "b prefill 2", "e prefill 3",
                                       "b decode 3", "e decode 3", "b queued 3", "e queued 6",
                                       "b prefill 6", "e prefill 7", "b decode 7", "e decode 8"));
}

TEST_F(RequestSpansTest, AnEngineThatEndsLeavesNothingOpen) {
  spans_.arrived(submitted({one_, two_}), at(1));
  spans_.admitted(std::vector{one_}, at(2));
  spans_.end_all(at(4));
  // What comes late of requests that it has given up draws nothing.
  spans_.told(token(one_), at(5));
  spans_.told(finish(two_), at(5));
  spans_.end_all(at(6));
  const auto json = drawn(one_);
  EXPECT_THAT(json, ElementsAre("b queued 1", "e queued 2", "b prefill 2", "e prefill 4"));
}

TEST_F(RequestSpansTest, KnowsOnlyWhatArrived) {
  spans_.admitted(std::vector{one_}, at(1));
  spans_.evicted(std::vector{one_}, at(1));
  spans_.told(token(one_), at(1));
  EXPECT_TRUE(drawn(one_).empty());
}

}  // namespace
}  // namespace gimbal::engine
