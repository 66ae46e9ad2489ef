#include "policy/preset.h"

#include <gtest/gtest.h>

#include <iterator>
#include <optional>
#include <string_view>

#include "policy/batch_former.h"
#include "policy/dispatch.h"
#include "policy/request_order.h"

namespace gimbal::policy {
namespace {

TEST(PresetTest, NamesAreThoseOfTheDesign) {
  EXPECT_EQ(preset_names(),
            (std::vector<std::string_view>{"vllm", "vllm-eplb", "vllm-rr", "gimbal-v1", "gimbal-v2",
                                           "tgi", "qllm", "gimbal"}));
}

TEST(PresetTest, EveryColumnNamesSomethingThatExists) {
  for (const std::string_view name : preset_names()) {
    const auto preset = find_preset(name);
    ASSERT_TRUE(preset.ok());
    EXPECT_EQ(preset->name, name);
    EXPECT_TRUE(make_dispatch(preset->dispatch, {}).ok()) << name;
    EXPECT_TRUE(make_request_order(preset->order, {}).ok()) << name;
    EXPECT_TRUE(make_batch_former(preset->former, {}).ok()) << name;
    EXPECT_TRUE(preset->binding == "early" || preset->binding == "late") << name;
    EXPECT_TRUE(preset->pace == "gang" || preset->pace == "lockstep" ||
                preset->pace == "immediate");
  }
}

TEST(PresetTest, PapersAndBaselinesAreAsTheTableSays) {
  const auto first = find_preset("gimbal-v1");
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->order, "sjf-priority-aging");
  EXPECT_EQ(first->promote_after_s, 5);
  EXPECT_FALSE(first->feedback);
  const auto second = find_preset("gimbal-v2");
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->former, "vllm");
  EXPECT_TRUE(second->feedback);
  const auto ours = find_preset("gimbal");
  ASSERT_TRUE(ours.ok());
  EXPECT_EQ(ours->pace, "gang");
  EXPECT_EQ(find_preset("tgi")->max_sequences, 32);
  const auto qllm = find_preset("qllm");
  ASSERT_TRUE(qllm.ok());
  EXPECT_EQ(qllm->former, "qllm");
  EXPECT_EQ(qllm->order, "fcfs");
  EXPECT_EQ(qllm->max_sequences, std::nullopt);
  EXPECT_EQ(BatchFormerOptions{}.max_batch, 32);
}

// A row as a preset has it, but for the pace of those of papers without expert parallelism.
struct Row {
  std::string_view name;
  std::string_view dispatch;
  std::string_view order;
  std::optional<double> promote_after_s;
  std::string_view former;
  std::optional<int> max_sequences;
  std::string_view pace;  // empty: not looked at
  std::string_view placement;
  bool feedback;
  std::string_view binding;
  std::string_view preemption;
};

TEST(PresetTest, EveryColumnIsAsTheTableSays) {
  constexpr std::nullopt_t kNone = std::nullopt;
  const Row rows[] = {
      {"vllm", "vllm", "fcfs", kNone, "vllm", kNone, "lockstep", "linear", false, "early", "off"},
      {"vllm-eplb", "vllm", "fcfs", kNone, "vllm", kNone, "lockstep", "eplb", false, "early",
       "off"},
      {"vllm-rr", "round-robin", "fcfs", kNone, "vllm", kNone, "lockstep", "linear", false, "early",
       "off"},
      {"gimbal-v1", "gimbal-v1", "sjf-priority-aging", 5.0, "vllm", kNone, "lockstep", "gimbal-v1",
       false, "early", "off"},
      {"gimbal-v2", "gimbal-v2", "sjf-aging", kNone, "vllm", kNone, "lockstep", "gimbal-v2", true,
       "early", "off"},
      {"tgi", "least-requests", "fcfs", kNone, "tgi", 32, "", "linear", false, "early", "off"},
      {"qllm", "least-requests", "fcfs", kNone, "qllm", kNone, "", "linear", false, "early",
       "expert"},
      {"gimbal", "gimbal", "sjf-aging", kNone, "gimbal", kNone, "gang", "gimbal", true, "early",
       "layer"},
  };
  ASSERT_EQ(preset_names().size(), std::size(rows));
  for (std::size_t i = 0; i < std::size(rows); ++i) {
    const Row& row = rows[i];
    SCOPED_TRACE(row.name);
    EXPECT_EQ(preset_names()[i], row.name);
    const auto preset = find_preset(row.name);
    ASSERT_TRUE(preset.ok()) << preset.error().message;
    EXPECT_EQ(preset->name, row.name);
    EXPECT_EQ(preset->dispatch, row.dispatch);
    EXPECT_EQ(preset->order, row.order);
    EXPECT_EQ(preset->promote_after_s, row.promote_after_s);
    EXPECT_EQ(preset->former, row.former);
    EXPECT_EQ(preset->batch_tokens, kNone);
    EXPECT_EQ(preset->max_sequences, row.max_sequences);
    if (!row.pace.empty()) {
      EXPECT_EQ(preset->pace, row.pace);
    }
    EXPECT_EQ(preset->placement, row.placement);
    EXPECT_EQ(preset->feedback, row.feedback);
    EXPECT_EQ(preset->binding, row.binding);
    EXPECT_EQ(preset->preemption, row.preemption);
  }
}

TEST(PresetTest, SaysWhatTakesNoEffectYet) {
  EXPECT_EQ(preset_gaps(*find_preset("vllm")), "");
  EXPECT_EQ(preset_gaps(*find_preset("gimbal")),
            "of preset gimbal, this takes no effect yet: placement gimbal, preemption layer");
  EXPECT_EQ(preset_gaps(*find_preset("qllm")),
            "of preset qllm, this takes no effect yet: preemption expert");
}

TEST(PresetTest, AnUnknownNameIsAnErrorThatNamesTheOthers) {
  const auto none = find_preset("vlm");
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().field, "preset");
  EXPECT_NE(none.error().message.find("vllm-eplb"), std::string::npos);
  EXPECT_NE(none.error().message.find("is vlm"), std::string::npos);
}

}  // namespace
}  // namespace gimbal::policy
