#include "policy/preset.h"

#include <gtest/gtest.h>

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
