#include "base/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "base/json.h"

namespace gimbal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TimePoint at_us(std::int64_t us) {
  return TimePoint{std::chrono::microseconds(us)};
}

// Ends the trace and reads it back.
Json finished(Trace& trace, const std::ostringstream& out) {
  EXPECT_TRUE(trace.finish().ok());
  auto json = parse_json(out.str());
  EXPECT_TRUE(json.ok()) << json.error().message << "\n" << out.str();
  return std::move(json).value();
}

std::vector<Json> of_phase(const Json& json, std::string_view phase) {
  std::vector<Json> events;
  for (const Json& event : json["traceEvents"]) {
    if (event["ph"] == phase) events.push_back(event);
  }
  return events;
}

TEST(Trace, AnEmptyTraceIsValid) {
  std::ostringstream out;
  Trace trace(out);
  const Json json = finished(trace, out);
  EXPECT_EQ(json["traceEvents"], Json::array());
  EXPECT_EQ(json["otherData"]["dropped_events"], 0);
}

TEST(Trace, TracksHaveNames) {
  std::ostringstream out;
  Trace trace(out);
  const std::int32_t engine = trace.add_process("engine 0");
  const std::int32_t service = trace.add_process("service 0");
  const TraceTrack batches = trace.add_track(engine, "batches");
  const TraceTrack runs = trace.add_track(service, "runs");
  EXPECT_NE(engine, service);
  EXPECT_NE(batches, runs);
  const Json json = finished(trace, out);
  std::map<std::string, std::string> names;
  for (const Json& event : of_phase(json, "M"))
    names[event["name"].get<std::string>() + std::to_string(event["pid"].get<int>()) + "/" +
          std::to_string(event["tid"].get<int>())] = event["args"]["name"].get<std::string>();
  const auto place = [](const TraceTrack& track) {
    return std::to_string(track.process) + "/" + std::to_string(track.thread);
  };
  EXPECT_EQ(names["process_name" + std::to_string(engine) + "/0"], "engine 0");
  EXPECT_EQ(names["process_name" + std::to_string(service) + "/0"], "service 0");
  EXPECT_EQ(names["thread_name" + place(batches)], "batches");
  EXPECT_EQ(names["thread_name" + place(runs)], "runs");
}

TEST(Trace, CompleteEventsHaveTimesInMicrosecondsFromTheOrigin) {
  std::ostringstream out;
  Trace trace(out, {.origin = at_us(1000)});
  const TraceTrack track = trace.add_track(trace.add_process("p"), "t");
  trace.complete(track, "step", at_us(1500) + Duration{7}, at_us(1742),
                 {{"rows", 12}, {"ms", 0.5}});
  trace.complete(track, "early", at_us(999) - Duration{500}, at_us(1000));
  trace.complete(track, "backward", at_us(1500), at_us(1400));
  const auto events = of_phase(finished(trace, out), "X");
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0]["name"], "step");
  EXPECT_EQ(events[0]["pid"], track.process);
  EXPECT_EQ(events[0]["tid"], track.thread);
  EXPECT_DOUBLE_EQ(events[0]["ts"].get<double>(), 500.007);
  EXPECT_DOUBLE_EQ(events[0]["dur"].get<double>(), 241.993);
  EXPECT_EQ(events[0]["args"], (Json{{"rows", 12}, {"ms", 0.5}}));
  EXPECT_DOUBLE_EQ(events[1]["ts"].get<double>(), -1.5);
  EXPECT_FALSE(events[1].contains("args"));
  EXPECT_EQ(events[2]["dur"], 0.0);
}

TEST(Trace, SpansCountersAndInstants) {
  std::ostringstream out;
  Trace trace(out);
  const TraceTrack track = trace.add_track(trace.add_process("p"), "t");
  trace.begin_span(track, "request", 0xfeedULL << 40, "queued", at_us(1));
  trace.end_span(track, "request", 0xfeedULL << 40, "queued", at_us(1));
  trace.counter(track.process, "rows", at_us(2), {{"ls", 3}, {"be", 4}});
  trace.instant(track, "swap", at_us(3));
  const Json json = finished(trace, out);
  // A span of no length begins before it ends.
  std::vector<std::string> phases;
  for (const Json& event : json["traceEvents"])
    phases.push_back(event["ph"].get<std::string>());
  EXPECT_THAT(phases, ElementsAre("M", "M", "b", "e", "C", "i"));
  EXPECT_EQ(of_phase(json, "b")[0]["id2"], (Json{{"local", "0xfeed0000000000"}}));
  EXPECT_EQ(of_phase(json, "e")[0]["id2"], (Json{{"local", "0xfeed0000000000"}}));
  EXPECT_EQ(of_phase(json, "b")[0]["cat"], "request");
  EXPECT_EQ(of_phase(json, "C")[0]["args"], (Json{{"ls", 3}, {"be", 4}}));
  EXPECT_EQ(of_phase(json, "i")[0]["s"], "t");
}

TEST(Trace, SpansOfTwoProcessesMayHaveOneId) {
  std::ostringstream out;
  Trace trace(out);
  const TraceTrack first = trace.add_track(trace.add_process("station 0"), "rows");
  const TraceTrack second = trace.add_track(trace.add_process("station 1"), "rows");
  trace.begin_span(first, "hold", 7, "held", at_us(1));
  trace.begin_span(second, "hold", 7, "held", at_us(2));
  trace.end_span(first, "hold", 7, "held", at_us(3));
  trace.end_span(second, "hold", 7, "held", at_us(4));
  const Json json = finished(trace, out);
  std::vector<std::pair<int, double>> ends;
  for (const Json& event : json["traceEvents"]) {
    EXPECT_FALSE(event.contains("id"));  // which would be one span of both
    if (event["ph"] != "b" && event["ph"] != "e") continue;
    EXPECT_EQ(event["id2"], (Json{{"local", "0x7"}}));  // of the process, "pid"
    if (event["ph"] == "e") ends.emplace_back(event["pid"].get<int>(), event["ts"].get<double>());
  }
  EXPECT_THAT(ends, ElementsAre(std::pair(first.process, 3.0), std::pair(second.process, 4.0)));
}

TEST(Trace, NamesAreEscapedAndNumbersStayNumbers) {
  std::ostringstream out;
  Trace trace(out);
  const std::string nasty = "\"\\\n\x01</script> \xff\xc3 ü";
  const TraceTrack track = trace.add_track(trace.add_process(nasty), nasty);
  trace.complete(track, trace.intern(nasty), at_us(0), at_us(1), {{"a\"b", std::nan("")}});
  trace.begin_span(track, "c\\at", 1, "n", at_us(0), {{"big", 1e300}, {"inf", HUGE_VAL}});
  const Json json = finished(trace, out);
  const std::string read = of_phase(json, "X")[0]["name"].get<std::string>();
  EXPECT_THAT(read, HasSubstr("\"\\\n\x01</script> "));
  EXPECT_THAT(read, HasSubstr(" ü"));
  EXPECT_TRUE(of_phase(json, "X")[0]["args"]["a\"b"].is_null());
  EXPECT_EQ(of_phase(json, "b")[0]["cat"], "c\\at");
  EXPECT_EQ(of_phase(json, "b")[0]["args"]["big"], 1e300);
  EXPECT_TRUE(of_phase(json, "b")[0]["args"]["inf"].is_null());
}

TEST(Trace, InternKeepsEachNameOnce) {
  std::ostringstream out;
  Trace trace(out);
  std::string name = "layer 3";
  const std::string_view kept = trace.intern(name);
  name = "layer 4";
  EXPECT_EQ(kept, "layer 3");
  EXPECT_EQ(trace.intern("layer 3").data(), kept.data());
  EXPECT_NE(trace.intern(name).data(), kept.data());
}

TEST(Trace, BeyondTheLimitEventsAreDroppedAndCounted) {
  std::ostringstream out;
  Trace trace(out, {.max_events = 10});
  const TraceTrack track = trace.add_track(trace.add_process("p"), "t");
  for (int i = 0; i < 25; ++i) {
    trace.complete(track, "e", at_us(i), at_us(i + 1));
    if (i == 5) trace.flush();
  }
  EXPECT_EQ(trace.dropped(), 15u);
  const Json json = finished(trace, out);
  EXPECT_EQ(of_phase(json, "X").size(), 10u);
  EXPECT_EQ(json["otherData"]["dropped_events"], 15);
  const auto notes = of_phase(json, "i");
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(notes[0]["name"], "trace full: 15 events were dropped");
  EXPECT_EQ(notes[0]["ts"], 10.0);
  EXPECT_EQ(notes[0]["s"], "g");
}

TEST(Trace, FlushingChangesNothingButWhenTextIsWritten) {
  std::ostringstream whole;
  std::ostringstream parts;
  for (const bool flushing : {false, true}) {
    Trace trace(flushing ? parts : whole);
    const TraceTrack track = trace.add_track(trace.add_process("p"), "t");
    for (int i = 0; i < 100; ++i) {
      trace.complete(track, "e", at_us(i), at_us(i + 1), {{"i", static_cast<double>(i)}});
      if (flushing && i % 7 == 0) {
        const auto before = parts.tellp();
        trace.flush();
        EXPECT_GT(parts.tellp(), before);
      }
    }
  }  // the destructor finishes
  EXPECT_EQ(whole.str(), parts.str());
  EXPECT_TRUE(parse_json(whole.str()).ok());
}

TEST(Trace, WhatComesAfterTheEndIsDropped) {
  std::ostringstream out;
  Trace trace(out);
  const TraceTrack track = trace.add_track(trace.add_process("p"), "t");
  EXPECT_TRUE(trace.finish().ok());
  const std::string text = out.str();
  trace.complete(track, "late", at_us(0), at_us(1));
  (void)trace.add_process("late");
  trace.flush();
  EXPECT_TRUE(trace.finish().ok());
  EXPECT_EQ(out.str(), text);
  EXPECT_EQ(trace.dropped(), 1u);
}

TEST(Trace, AStreamThatFailsIsAnError) {
  std::ostringstream out;
  Trace trace(out);
  out.setstate(std::ios::badbit);
  trace.flush();
  EXPECT_EQ(trace.finish().error().code, ErrorCode::kIo);
}

TEST(Trace, AScopeRecordsItselfAndANullTraceNothing) {
  std::ostringstream out;
  Trace trace(out);
  const TraceTrack track = trace.add_track(trace.add_process("p"), "t");
  ManualClock clock;
  clock.set(at_us(4));
  {
    const TraceScope off(nullptr, clock, track, "off");
    const TraceScope on(&trace, clock, track, "on");
    clock.advance(std::chrono::microseconds(3));
  }
  const auto events = of_phase(finished(trace, out), "X");
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0]["name"], "on");
  EXPECT_EQ(events[0]["ts"], 4.0);
  EXPECT_EQ(events[0]["dur"], 3.0);
}

TEST(Trace, ThreadsRecordAtOnce) {
  constexpr int kThreads = 6;
  constexpr int kEvents = 2000;
  constexpr std::size_t kLimit = 10'000;
  std::ostringstream out;
  Trace trace(out, {.max_events = kLimit});
  const std::int32_t process = trace.add_process("p");
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&trace, process, t] {
      const TraceTrack track = trace.add_track(process, "thread " + std::to_string(t));
      const std::string_view name = trace.intern("e" + std::to_string(t));
      for (int i = 0; i < kEvents; ++i) {
        trace.complete(track, name, at_us(i), at_us(i + 1), {{"i", static_cast<double>(i)}});
        if (i % 500 == 0) trace.flush();
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  const Json json = finished(trace, out);
  EXPECT_EQ(of_phase(json, "X").size(), kLimit);
  EXPECT_EQ(json["otherData"]["dropped_events"], kThreads * kEvents - static_cast<int>(kLimit));
  // The events of a thread are in its order, none twice.
  std::map<std::string, double> last;
  for (const Json& event : of_phase(json, "X")) {
    const auto [place, first] = last.try_emplace(event["name"].get<std::string>(), -1);
    EXPECT_GT(event["args"]["i"].get<double>(), place->second);
    place->second = event["args"]["i"].get<double>();
  }
}

}  // namespace
}  // namespace gimbal
