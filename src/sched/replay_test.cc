#include "sched/replay.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "policy/batch_former.h"
#include "policy/request_order.h"
#include "sched/event_recorder.h"
#include "sched/random_run.h"

namespace gimbal::sched {
namespace {

std::string record_of(std::uint64_t seed, std::string_view order, std::string_view former) {
  Rng rng(seed);
  StepLoopOptions options = random_options(rng);
  options.order = order;
  options.former = former;
  options.report_order = true;
  if (seed % 2 == 0) options.max_waiting_prefill_tokens = 60;
  auto executor = LoopDriver::executor_options(options, seed);
  executor.failure_rate = 0.02;
  std::ostringstream out;
  EventRecorder recorder(out);
  LoopDriver driver(options, executor, &recorder);
  run_random(driver, rng, 40, 0.3);
  driver.send(SetDraining{});
  return out.str();
}

Result<ReplayReport> replay_text(const std::string& text) {
  std::istringstream in(text);
  return replay(in);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);)
    lines.push_back(line);
  return lines;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines)
    text += line + "\n";
  return text;
}

TEST(ReplayTest, RecordedRunsTakeTheSameDecisionsAgain) {
  std::uint64_t seed = 0;
  for (const std::string_view order : policy::request_order_names()) {
    for (const std::string_view former : policy::batch_former_names()) {
      for (int i = 0; i < 5; ++i) {
        const auto report = replay_text(record_of(++seed, order, former));
        ASSERT_TRUE(report.ok()) << report.error().message << " seed " << seed;
        EXPECT_GT(report->plans, 5U);
        EXPECT_GT(report->orders, 0U);
        EXPECT_GT(report->calls, report->plans);
      }
    }
  }
}

TEST(ReplayTest, NoticesADecisionThatDiffers) {
  const std::string text = record_of(3, "sjf", "gimbal");
  std::vector<std::string> lines = lines_of(text);
  for (std::size_t i = 1; i < lines.size(); ++i) {
    if (lines[i].find("\"plan\"") == std::string::npos) continue;
    std::vector<std::string> changed = lines;
    changed[i].replace(changed[i].find("\"hash\":") + 7, 1, "9");
    if (changed[i] == lines[i]) continue;
    const auto report = replay_text(joined(changed));
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.error().message.find("line " + std::to_string(i + 1) + " "), 0U);
    changed = lines;
    changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_FALSE(replay_text(joined(changed)).ok());
    return;
  }
  FAIL() << "no plan in the record";
}

TEST(ReplayTest, NoticesAnOrderThatDiffers) {
  const std::vector<std::string> lines = lines_of(record_of(5, "sjf-aging", "gimbal"));
  for (const std::string_view what : {"\"key\":[", "\"waiting\":[", "\"waited\":"}) {
    std::vector<std::string> changed = lines;
    for (std::size_t i = 1; i < lines.size(); ++i) {
      const std::size_t at = lines[i].find(what);
      if (lines[i].find("\"order\"") == std::string::npos || at == std::string::npos) continue;
      changed[i].insert(at + what.size(), "1");
      const auto report = replay_text(joined(changed));
      ASSERT_FALSE(report.ok()) << what;
      EXPECT_EQ(report.error().message.find("line " + std::to_string(i + 1) + " "), 0U);
      break;
    }
    EXPECT_NE(changed, lines) << what;
  }
}

// Of a version that did not write where requests were queued.
TEST(ReplayTest, ReplaysARecordWithoutOrders) {
  std::vector<std::string> lines = lines_of(record_of(6, "sjf-aging", "gimbal"));
  const std::string option = "\"report_order\":true,";
  ASSERT_NE(lines[0].find(option), std::string::npos);
  lines[0].erase(lines[0].find(option), option.size());
  std::erase_if(lines, [](const std::string& line) {
    return line.find("\"order\"") != std::string::npos &&
           line.find("\"record\"") == std::string::npos;
  });
  const auto report = replay_text(joined(lines));
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_GT(report->plans, 5U);
  EXPECT_EQ(report->orders, 0U);
}

TEST(ReplayTest, NoticesOtherOptions) {
  // The order decides something only where several requests wait; one of these records shows it.
  int noticed = 0;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    std::string text = record_of(seed, "sjf", "vllm");
    text.replace(text.find("\"sjf\""), 5, "\"fcfs\"");
    noticed += replay_text(text).ok() ? 0 : 1;
  }
  EXPECT_GT(noticed, 0);
}

TEST(ReplayTest, ReplaysARecordThatWasCutOff) {
  const std::string text = record_of(8, "fcfs", "gimbal");
  const std::size_t header = text.find('\n') + 1;
  for (std::size_t length = header; length < text.size(); length += 97) {
    const auto report = replay_text(text.substr(0, length));
    EXPECT_TRUE(report.ok()) << report.error().message << " length " << length;
  }
}

TEST(ReplayTest, AnswersRubbishWithErrors) {
  const std::string text = record_of(9, "sjf-aging", "gimbal");
  const std::string header = lines_of(text).front() + "\n";
  for (const std::string& rubbish :
       {std::string(), std::string("\n"), std::string("[]\n"), std::string("{\"record\":99}\n"),
        std::string("{}\n"), header + "{\"now\":-1,\"events\":[]}\n",
        header + "{\"now\":1,\"events\":3}\n", header + "{\"now\":1,\"events\":[3]}\n",
        header + "{\"now\":1,\"events\":[{}]}\n",
        header + "{\"now\":1,\"events\":[{\"cancel\":-4}]}\n",
        header + "{\"now\":1,\"events\":[{\"submit\":{}}]}\n",
        header + "{\"now\":1,\"events\":[{\"reached\":1,\"stage\":3}]}\n",
        header + "{\"now\":1,\"events\":[{\"finished\":1,\"results\":[]}]}\n",
        header + "{\"now\":1,\"events\":[{\"failed\":1}]}\n",
        header + "{\"now\":2,\"events\":[]}\n{\"now\":1,\"events\":[]}\n",
        header + "{\"plan\":1}\n", header + "not json\n" + header}) {
    const auto report = replay_text(rubbish);
    EXPECT_FALSE(report.ok()) << rubbish;
  }
}

TEST(ReplayTest, SurvivesRandomDamage) {
  const std::string text = record_of(10, "sjf-aging", "gimbal");
  Rng rng(4);
  int refused = 0;
  for (int round = 0; round < 120; ++round) {
    std::string damaged = text;
    for (auto i = rng.below(3) + 1; i > 0; --i) {
      damaged[rng.below(damaged.size())] = "0123456789,:[]{}\"-ntf"[rng.below(21)];
    }
    refused += replay_text(damaged).ok() ? 0 : 1;  // and does not crash
  }
  EXPECT_GT(refused, 40);
}

}  // namespace
}  // namespace gimbal::sched
