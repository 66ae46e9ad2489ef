#include "apps/workload_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/temporary_folder.h"
#include "workload/trace_writer.h"

namespace gimbal::apps {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using workload::RequestSpec;
using workload::Workload;

Result<Workload> workload_from(std::vector<std::string> arguments) {
  CLI::App app;
  WorkloadFlags flags;
  flags.add_to(app);
  std::reverse(arguments.begin(), arguments.end());
  app.parse(arguments);
  return make_workload(flags);
}

Workload made(std::vector<std::string> arguments) {
  auto workload = workload_from(std::move(arguments));
  EXPECT_TRUE(workload.ok()) << workload.error().message;
  return workload.ok() ? std::move(*workload) : Workload{};
}

std::vector<std::int64_t> lengths_of(const Workload& workload) {
  std::vector<std::int64_t> lengths;
  for (const RequestSpec& request : workload.requests)
    lengths.push_back(request.prompt_tokens());
  return lengths;
}

std::vector<Duration> arrivals_of(const Workload& workload) {
  std::vector<Duration> arrivals;
  for (const RequestSpec& request : workload.requests)
    arrivals.push_back(request.arrival);
  return arrivals;
}

// A trace of four requests at 0, 10, 20 and 100 ms.
class WorkloadFlagsTrace : public testing::Test {
 protected:
  WorkloadFlagsTrace() {
    std::ofstream file(path_);
    for (const int ms : {0, 10, 20, 100}) {
      file << R"({"timestamp":)" << ms << R"(,"input_length":600,"output_length":40,"hash_ids":[1,)"
           << ms << "]}\n";
    }
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.path("trace.jsonl");
};

TEST(WorkloadFlags, DefaultIsVllmsRandomDataSet) {
  const Workload workload = made({});
  ASSERT_EQ(workload.requests.size(), 1000u);
  EXPECT_EQ(workload.requests[0].prompt_tokens(), 1024);
  EXPECT_EQ(workload.requests[0].output_tokens, 128);
  EXPECT_EQ(workload.requests.back().arrival, Duration{});
}

TEST(WorkloadFlags, WhatIsGivenDecidesTheDataSet) {
  EXPECT_THAT(made({"--lengths", "central", "--num-prompts", "5"}).name, HasSubstr("central"));
  const auto lengths = lengths_of(made({"--lengths", "descending-arrival", "--num-prompts", "50"}));
  EXPECT_TRUE(std::is_sorted(lengths.rbegin(), lengths.rend()));
  EXPECT_EQ(made({"--lengths", "random", "--num-prompts", "50", "--exact-count"}).requests.size(),
            50u);
  EXPECT_TRUE(made({"--dataset-name", "multi-turn", "--num-prompts", "5"}).has_prefixes);
  const Workload mix = made({"--dataset-name", "qllm", "--num-prompts", "500"});
  const auto sensitive =
      std::count_if(mix.requests.begin(), mix.requests.end(), [](const RequestSpec& request) {
        return request.traffic_class == workload::TrafficClass::kLatencySensitive;
      });
  EXPECT_NEAR(static_cast<double>(sensitive), 100.0, 30.0);
}

TEST(WorkloadFlags, PartsOfAWorkloadAreDrawnApart) {
  const std::vector<std::string> base{"--lengths", "average", "--num-prompts", "50", "--seed", "9"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), base.begin(), base.end());
    return made(more);
  };
  const Workload slow = with({"--request-rate", "1"});
  const Workload fast = with({"--request-rate", "2", "--ls-share", "0.5", "--users", "4"});
  EXPECT_EQ(lengths_of(slow), lengths_of(fast));
  for (std::size_t i = 0; i < slow.requests.size(); ++i) {
    EXPECT_NEAR(to_ms(slow.requests[i].arrival), 2 * to_ms(fast.requests[i].arrival), 0.001);
  }
  EXPECT_NE(lengths_of(slow),
            lengths_of(made({"--lengths", "average", "--num-prompts", "50", "--seed", "8"})));
}

TEST(WorkloadFlags, ScalesLengthsLast) {
  const Workload workload =
      made({"--num-prompts", "3", "--prompt-cap", "800", "--scale-lengths", "0.125"});
  EXPECT_EQ(workload.requests[0].prompt_tokens(), 100);
  EXPECT_EQ(workload.requests[0].output_tokens, 16);
}

TEST_F(WorkloadFlagsTrace, KeepsItsTimesUnlessToldOtherwise) {
  const std::vector<Duration> own{milliseconds(0), milliseconds(10), milliseconds(20),
                                  milliseconds(100)};
  EXPECT_EQ(arrivals_of(made({"--trace", path_})), own);
  // Stretched so that the last of four comes at 4/rate.
  const std::vector<Duration> stretched{milliseconds(0), milliseconds(200), milliseconds(400),
                                        milliseconds(2000)};
  EXPECT_EQ(arrivals_of(made({"--dataset-path", path_, "--request-rate", "2"})), stretched);
  const auto drawn =
      arrivals_of(made({"--trace", path_, "--request-rate", "2", "--burstiness", "1"}));
  EXPECT_EQ(drawn.back(), milliseconds(2000));
  EXPECT_NE(drawn, stretched);
  EXPECT_EQ(arrivals_of(made({"--trace", path_, "--num-prompts", "2"})),
            (std::vector<Duration>{milliseconds(0), milliseconds(10)}));
}

TEST(WorkloadFlags, ATraceWithoutAPatternOfItsOwnTakesTheRate) {
  const TemporaryFolder folder;
  const std::string row = R"({"timestamp":0,"input_length":9,"output_length":1,"hash_ids":[]})";
  const std::string at_once = folder.write("once.jsonl", row + "\n" + row + "\n" + row + "\n");
  EXPECT_EQ(made({"--trace", at_once}).requests.back().arrival, Duration{});
  const auto arrivals = arrivals_of(made({"--trace", at_once, "--request-rate", "2"}));
  EXPECT_EQ(arrivals.back(), milliseconds(1500));
  EXPECT_GT(arrivals[1], arrivals[0]);
  EXPECT_TRUE(std::is_sorted(arrivals.begin(), arrivals.end()));
  const std::string one = folder.write("one.jsonl", row);
  EXPECT_EQ(made({"--trace", one, "--request-rate", "4"}).requests[0].arrival, milliseconds(250));
}

// The times of a generator: the first of N requests arrives after a gap, the last at N/rate.
TEST(WorkloadFlags, ATraceOfItsOwnFormatKeepsItsBeginning) {
  const TemporaryFolder folder;
  const auto row = [](int ms) {
    return R"({"timestamp":)" + std::to_string(ms) +
           R"(,"input_length":9,"output_length":1,"prompt":[[1,9,-1]]})" + "\n";
  };
  const std::string path = folder.write("own.jsonl", row(500) + row(600) + row(1000));
  const auto arrivals = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"--trace", path});
    return arrivals_of(made(flags));
  };
  const auto ms = [](auto... times) { return std::vector<Duration>{milliseconds(times)...}; };
  EXPECT_EQ(arrivals({}), ms(500, 600, 1000));
  EXPECT_EQ(arrivals({"--request-rate", "1"}), ms(1500, 1800, 3000));
  // As a part of a trace it begins at 0.
  EXPECT_EQ(arrivals({"--skip-prompts", "0"}), ms(0, 100, 500));
  EXPECT_EQ(arrivals({"--skip-prompts", "1"}), ms(0, 400));
  EXPECT_EQ(arrivals({"--skip-prompts", "1", "--request-rate", "1"}), ms(0, 2000));
  // All at one moment is no pattern, whatever the moment.
  const std::string once = folder.write("once.jsonl", row(500) + row(500));
  const auto drawn = arrivals_of(made({"--trace", once, "--request-rate", "1"}));
  EXPECT_EQ(drawn[1], milliseconds(2000));
  EXPECT_LT(drawn[0], drawn[1]);
}

TEST(WorkloadFlags, AnOtherRateOfAWrittenWorkloadIsThatOfItsGenerator) {
  const TemporaryFolder folder;
  const std::vector<std::string> flags{"--num-prompts", "20", "--request-rate", "4"};
  const Workload slow = made({"--num-prompts", "20", "--request-rate", "2"});
  std::ostringstream text;
  workload::write_jsonl(made(flags), text);
  const Workload again =
      made({"--trace", folder.write("w.jsonl", text.str()), "--request-rate", "2"});
  ASSERT_EQ(again.requests.size(), slow.requests.size());
  for (std::size_t i = 0; i < slow.requests.size(); ++i)
    EXPECT_NEAR(to_ms(again.requests[i].arrival), to_ms(slow.requests[i].arrival), 1e-3);
}

TEST_F(WorkloadFlagsTrace, WindowsStartAtZero) {
  const Workload window = made({"--trace", path_, "--skip-prompts", "1", "--num-prompts", "2"});
  EXPECT_EQ(arrivals_of(window), (std::vector<Duration>{milliseconds(0), milliseconds(10)}));
  const std::vector<Duration> stretched{milliseconds(0), milliseconds(1000)};
  EXPECT_EQ(arrivals_of(made({"--trace", path_, "--skip-prompts", "2", "--request-rate", "2"})),
            stretched);
  for (const char* count : {"4", "-1"})
    EXPECT_THAT(workload_from({"--trace", path_, "--skip-prompts", count}).error().message,
                HasSubstr("--skip-prompts"));
  EXPECT_THAT(workload_from({"--skip-prompts", "1"}).error().message, HasSubstr("--skip-prompts"));
}

TEST_F(WorkloadFlagsTrace, ReadsItAsItIsTold) {
  EXPECT_FALSE(workload_from({"--trace", path_, "--trace-format", "azure"}).ok());
  EXPECT_FALSE(workload_from({"--trace", path_, "--block-size", "700"}).ok());
  EXPECT_EQ(made({"--trace", path_, "--block-size", "300"}).requests[0].prompt[0].tokens, 300);
}

TEST(WorkloadFlags, TakesTheLinesOfVllmForShareGpt) {
  const TemporaryFolder folder;
  const std::string path = folder.write(
      "s.json", R"([{"conversations": [{"value": "one two three"}, {"value": "four five"}]},
                    {"conversations": [{"value": "a question"}, {"value": "an answer"}]}])");
  const auto flags = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--dataset-name", "sharegpt", "--dataset-path", path});
    return more;
  };
  EXPECT_EQ(made(flags({})).requests.size(), 1000u);
  const Workload few = made(flags({"--num-prompts", "3", "--request-rate", "2"}));
  EXPECT_EQ(few.requests.size(), 3u);
  EXPECT_FALSE(few.requests[0].text.empty());
  EXPECT_EQ(few.requests.back().arrival, milliseconds(1500));
  EXPECT_THAT(workload_from({"--dataset-name", "sharegpt"}).error().message,
              HasSubstr("--dataset-name sharegpt needs --dataset-path"));
  EXPECT_EQ(made({"--input-len", "7", "--output-len", "3"}).requests[0].prompt_tokens(), 7);
}

TEST(WorkloadFlags, ErrorsNameTheFlag) {
  const auto message = [](std::vector<std::string> arguments) {
    const auto workload = workload_from(std::move(arguments));
    return workload.ok() ? std::string("accepted") : workload.error().message;
  };
  EXPECT_THAT(message({"--dataset-name", "x"}), HasSubstr("--dataset-name"));
  EXPECT_THAT(message({"--dataset-name", "trace"}), HasSubstr("--dataset-path"));
  EXPECT_THAT(message({"--lengths", "x"}), HasSubstr("--lengths"));
  EXPECT_THAT(message({"--lengths", "average", "--prompt-range", "16"}),
              HasSubstr("--prompt-range"));
  EXPECT_THAT(message({"--num-prompts", "0"}), HasSubstr("--num-prompts"));
  EXPECT_THAT(message({"--request-rate", "0"}), HasSubstr("request rate"));
  EXPECT_THAT(message({"--request-rate", "5x"}), HasSubstr("--request-rate"));
  EXPECT_THAT(message({"--request-rate", "5", "--burstiness", "-1"}), HasSubstr("burstiness"));
  EXPECT_THAT(message({"--scale-lengths", "0"}), HasSubstr("--scale-lengths"));
  EXPECT_THAT(message({"--ls-share", "2"}), HasSubstr("--ls-share"));
  EXPECT_THAT(message({"--prompt-cap", "0"}), HasSubstr("--prompt-cap"));
  EXPECT_THAT(message({"--topics", "3"}), HasSubstr("users"));
  EXPECT_THAT(message({"--trace", "/nonexistent"}), HasSubstr("/nonexistent"));
}

}  // namespace
}  // namespace gimbal::apps
