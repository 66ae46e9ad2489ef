#include "sim/record_replay.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>

#include "policy/batch_former.h"
#include "policy/request_order.h"
#include "sched/event_recorder.h"
#include "sched/random_run.h"
#include "sim/testbed_fixture.h"

namespace gimbal::sim {
namespace {

// Of a scheduler on a scripted executor, with cancels, evictions and failures.
std::string scripted_record(std::uint64_t seed, std::string_view order, std::string_view former) {
  Rng rng(seed);
  sched::StepLoopOptions options = sched::random_options(rng);
  options.order = order;
  options.former = former;
  auto executor = sched::LoopDriver::executor_options(options, seed);
  executor.failure_rate = 0.02;
  std::ostringstream out;
  sched::EventRecorder recorder(out);
  sched::LoopDriver driver(options, executor, &recorder);
  sched::run_random(driver, rng, 40, 0.3);
  return out.str();
}

Result<sched::ReplayReport> replay_text(const std::string& text) {
  std::istringstream in(text);
  return replay_record(in);
}

TEST(RecordReplayTest, TheSimulatedExecutorLeadsToTheSameDecisions) {
  std::uint64_t seed = 0;
  for (const std::string_view order : policy::request_order_names()) {
    for (const std::string_view former : policy::batch_former_names()) {
      for (int i = 0; i < 3; ++i) {
        const auto report = replay_text(scripted_record(++seed, order, former));
        ASSERT_TRUE(report.ok()) << report.error().message << " seed " << seed;
        EXPECT_GT(report->plans, 5U);
        EXPECT_GT(report->calls, report->plans);
      }
    }
  }
}

TEST(RecordReplayTest, WhatASimulatedEngineRecordsIsReplayed) {
  const auto testbed = plain_testbed(uniform_cluster(2, 2).value());
  const workload::Workload workload = random_workload(4, 60, 1);
  auto options = cluster_options(*testbed, plain_system("gimbal"));
  ASSERT_TRUE(options.ok());
  std::ostringstream records[2];
  sched::EventRecorder recorders[] = {sched::EventRecorder(records[0]),
                                      sched::EventRecorder(records[1])};
  std::ostringstream dispatch;
  cluster::DispatchRecorder dispatch_recorder(dispatch);
  options->recorders = {&recorders[0], &recorders[1]};
  options->dispatch_recorder = &dispatch_recorder;
  const auto cluster = SimulatedCluster::make(std::move(options).value(), workload).value();
  cluster->run();
  for (const std::ostringstream& record : records) {
    const auto report = replay_text(record.str());
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_GT(report->plans, 10U);
  }
  std::istringstream in(dispatch.str());
  const auto replayed = cluster::replay_dispatch(in);
  ASSERT_TRUE(replayed.ok()) << replayed.error().message;
  EXPECT_EQ(replayed->decisions, 60U);
  EXPECT_NE(dispatch.str().find("\"call\":\"rows\""), std::string::npos);
}

TEST(RecordReplayTest, NamesTheLineThatDiffers) {
  const std::string text = scripted_record(3, "fcfs", "vllm");
  std::string changed = text;
  const std::size_t former = changed.find("\"former\":\"vllm\"");
  ASSERT_NE(former, std::string::npos);
  changed.replace(former, 15, "\"former\":\"tgi\"");
  const auto other = replay_text(changed);
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.error().message.find("line "), std::string::npos);
  for (const char* bad : {"", "x", "{}", "[]", "{\"events\":[]}"})
    EXPECT_FALSE(replay_text(bad).ok()) << bad;
}

TEST(RecordReplayTest, RefusesAnswersThatNobodyWaitsFor) {
  std::string text = scripted_record(5, "fcfs", "vllm");
  const std::size_t reached = text.find("\"finished\":");
  ASSERT_NE(reached, std::string::npos);
  const std::size_t digit = text.find_first_of("0123456789", reached);
  text[digit] = text[digit] == '9' ? '8' : '9';
  const auto report = replay_text(text);
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.error().message.find("would not have had"), std::string::npos)
      << report.error().message;
}

}  // namespace
}  // namespace gimbal::sim
