#include "cost/step_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "sched/record_json.h"

namespace gimbal::cost {
namespace {

using ::testing::HasSubstr;

TimePoint at_ms(double ms) {
  return TimePoint{} + from_ms(ms);
}

// Writes a record as an engine does: what happened, then the plan that it led to.
class Record {
 public:
  Record() {
    text_ << sched::header_to_json({{.max_model_len = 64, .vocab_size = 8, .kv_pages = 8}, 2})
          << '\n';
  }

  Record& submit(double ms, std::uint64_t id, int prompt) {
    sched::Request request{.id = RequestId{id}, .max_tokens = 4};
    request.prompt.assign(static_cast<std::size_t>(prompt), 1);
    std::vector<sched::Event> events;
    events.emplace_back(sched::SubmitGroup{{std::move(request)}});
    return call(ms, events);
  }
  Record& finished(double ms, int batch, double attention, double service, double wait,
                   int experts) {
    std::vector<sched::Event> events;
    events.emplace_back(sched::StepFinished{.batch = BatchId{static_cast<std::uint32_t>(batch)},
                                            .attention = from_ms(attention),
                                            .service = from_ms(service),
                                            .wait = from_ms(wait),
                                            .distinct_experts = experts});
    return call(ms, events);
  }
  Record& failed(double ms, int batch) {
    std::vector<sched::Event> events;
    events.emplace_back(
        sched::StepFailed{.batch = BatchId{static_cast<std::uint32_t>(batch)}, .message = "x"});
    return call(ms, events);
  }
  Record& line(const std::string& text) {
    text_ << text << '\n';
    return *this;
  }

  [[nodiscard]] std::string text() const { return text_.str(); }
  [[nodiscard]] Result<std::vector<MeasuredStep>> read() const {
    std::istringstream in(text_.str());
    return read_step_log(in);
  }

 private:
  Record& call(double ms, std::span<const sched::Event> events) {
    text_ << sched::call_to_json(at_ms(ms), events) << '\n';
    return *this;
  }

  std::ostringstream text_;
};

std::vector<MeasuredStep> steps_of(const Record& record) {
  auto steps = record.read();
  EXPECT_TRUE(steps.ok()) << steps.error().message;
  return *steps;
}

TEST(StepLogTest, PrefillAndDecodeStepsByHand) {
  Record record;
  record.submit(1, 7, 10)
      .line(R"({"plan": 0, "rows": [[7, 0, 6, false]]})")
      .finished(5, 0, 2, 1.5, 0.25, 12)
      .line(R"({"plan": 1, "rows": [[7, 6, 4, true]]})")
      .submit(6, 8, 3)
      .finished(8, 1, 1, 1, 0, 9)
      .line(R"({"plan": 2, "rows": [[7, 10, 1, true], [8, 0, 3, true]]})")
      .finished(9.5, 2, 0.5, 0.75, 0, 8);
  const std::vector<MeasuredStep> expected = {
      {.work = {.prefill_rows = 6, .prefill_context = 1 + 2 + 3 + 4 + 5 + 6},
       .distinct_experts = 12,
       .attention_ms = 2,
       .service_ms = 1.5,
       .wait_ms = 0.25,
       .whole_ms = 4},
      {.work = {.prefill_rows = 4, .prefill_context = 7 + 8 + 9 + 10, .sampled = 1},
       .distinct_experts = 9,
       .attention_ms = 1,
       .service_ms = 1,
       .whole_ms = 3},
      {.work = {.prefill_rows = 3,
                .decodes = 1,
                .decode_context = 11,
                .prefill_context = 1 + 2 + 3,
                .sampled = 2},
       .distinct_experts = 8,
       .attention_ms = 0.5,
       .service_ms = 0.75,
       .whole_ms = 1.5}};
  EXPECT_EQ(steps_of(record), expected);
}

TEST(StepLogTest, StepsOfAGangSayWhich) {
  Record record;
  record.submit(1, 7, 10)
      .line(R"({"events": [{"start": 5, "members": 3}], "now": 2000000})")
      .line(R"({"plan": 0, "rows": [[7, 0, 10, true]]})")
      .finished(5, 0, 2, 1, 0.5, 0)
      .line(R"({"events": [{"start": 6, "members": 0}], "now": 6000000})")
      .line(R"({"plan": 1, "rows": [[7, 10, 1, true]]})")
      .finished(7, 1, 0.5, 0.25, 0, 0);
  const std::vector<MeasuredStep> steps = steps_of(record);
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_EQ(steps[0].gang_step, 5U);
  EXPECT_EQ(steps[1].gang_step, 0U);
}

TEST(StepLogTest, StepsThatFailedOrLostMembersOrNeverEndedAreLeftOut) {
  Record record;
  record.submit(1, 7, 10)
      .line(R"({"plan": 0, "rows": [[7, 0, 6, false]]})")
      .failed(2, 0)
      .submit(3, 8, 10)
      .line(R"({"plan": 1, "rows": [[8, 0, 10, true]]})")
      .line(R"({"drop": 1, "requests": [8]})")
      .finished(4, 1, 1, 1, 0, 0)
      .submit(5, 9, 10)
      .line(R"({"intent": [0, 0, 10, 10, true]})")
      .line(R"({"plan": 2, "rows": [[9, 0, 10, true]]})");
  EXPECT_TRUE(steps_of(record).empty());
}

TEST(StepLogTest, ALineThatWasCutOffEndsTheRecord) {
  Record record;
  record.submit(1, 7, 10)
      .line(R"({"plan": 0, "rows": [[7, 0, 10, true]]})")
      .finished(5, 0, 2, 1, 0, 0);
  std::istringstream in(record.text() + R"({"plan": 1, "ro)");
  const auto steps = read_step_log(in);
  ASSERT_TRUE(steps.ok()) << steps.error().message;
  EXPECT_EQ(steps->size(), 1U);
}

TEST(StepLogTest, WrongLinesAreNamedByNumberAndField) {
  for (const char* rows :
       {"7", "[7]", "[[7, 0, 6]]", "[[7, 0, 0, true]]", "[[7, -1, 6, true]]", "[[7, 0, 6, 1]]",
        "[[-7, 0, 6, true]]", "[[7, 0, 4294967296, true]]", "[[7, 0.5, 6, true]]",
        "[[3, 0, 6, true]]", "[[7, 0, 99999999999999999999, true]]"}) {
    Record record;
    record.submit(1, 7, 10).line(std::string(R"({"plan": 0, "rows": )") + rows + "}");
    const auto steps = record.read();
    ASSERT_FALSE(steps.ok()) << rows;
    EXPECT_THAT(steps.error().message, HasSubstr("line 3"));
    EXPECT_THAT(steps.error().message, HasSubstr("rows"));
  }
  for (const char* line : {"7", "{", R"({"events": 3})", R"({"plan": "x", "rows": []})"}) {
    Record record;
    record.submit(1, 7, 10).line(line).submit(2, 8, 10);
    const auto steps = record.read();
    ASSERT_FALSE(steps.ok()) << line;
    EXPECT_THAT(steps.error().message, HasSubstr("line 3"));
  }
}

TEST(StepLogTest, WhatIsNoRecordIsAnError) {
  for (const char* text : {"", "\n", "{}\n", "no record\n"}) {
    std::istringstream in(text);
    EXPECT_FALSE(read_step_log(in).ok()) << text;
  }
  const auto missing = read_step_log(std::string("/no/such/record"));
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().message, HasSubstr("/no/such/record"));
}

}  // namespace
}  // namespace gimbal::cost
