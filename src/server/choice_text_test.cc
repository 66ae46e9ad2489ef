#include "server/choice_text.h"

#include <gtest/gtest.h>

#include <string_view>

#include "server/fake_engine.h"

namespace gimbal::server {
namespace {

// Pushes bytes until a stop string is met; what is shown, with "|" where it was met.
std::string shown(ChoiceText& choice, std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) {
    if (choice.push(static_cast<std::uint8_t>(byte), out)) return out + "|";
  }
  return choice.finish(out) ? out + "|" : out;
}

class ChoiceTextTest : public ::testing::Test {
 protected:
  ByteCodec codec;
};

TEST_F(ChoiceTextTest, PassesTextThrough) {
  ChoiceText choice(codec.vocabulary(), {});
  EXPECT_EQ(shown(choice, "gr\xC3\xBC\xC3\x9F\xE2\x82"), "gr\xC3\xBC\xC3\x9F\xEF\xBF\xBD");
  EXPECT_EQ(choice.tokens(), 8);
  EXPECT_EQ(choice.stop(), nullptr);
}

TEST_F(ChoiceTextTest, EndsBeforeAStopStringOrBehindItAsAsked) {
  ChoiceText before(codec.vocabulary(), {.stop = {"stop"}});
  EXPECT_EQ(shown(before, "don't sto stop it"), "don't sto |");
  EXPECT_EQ(*before.stop(), "stop");
  ChoiceText behind(codec.vocabulary(), {.stop = {"stop"}, .include_stop = true});
  EXPECT_EQ(shown(behind, "don't stop it"), "don't stop|");
}

TEST_F(ChoiceTextTest, ShowsTheStartOfAStopStringThatDoesNotComeTrue) {
  ChoiceText choice(codec.vocabulary(), {.stop = {"stop"}});
  EXPECT_EQ(shown(choice, "a sto"), "a sto");
}

TEST_F(ChoiceTextTest, FindsAStopStringThatTheEndCompletes) {
  ChoiceText choice(codec.vocabulary(), {.stop = {"\xEF\xBF\xBD"}});
  EXPECT_EQ(shown(choice, "a\xE2"), "a|");
}

TEST_F(ChoiceTextTest, LooksForStopStringsOnlyAfterTheLeastTokens) {
  ChoiceText choice(codec.vocabulary(), {.stop = {"aa"}, .min_tokens = 3});
  EXPECT_EQ(shown(choice, "aaaxaa"), "aaax|");
  EXPECT_EQ(choice.tokens(), 6);
}

TEST_F(ChoiceTextTest, HidesTheStopTokenUnlessItIsAskedFor) {
  std::string out;
  ChoiceText hidden(codec.vocabulary(), {.skip_special_tokens = false});
  EXPECT_FALSE(hidden.push_stop_token(kEndToken, out));
  EXPECT_EQ(out, "");
  EXPECT_EQ(hidden.tokens(), 1);
  ChoiceText included(codec.vocabulary(), {.include_stop = true, .skip_special_tokens = false});
  EXPECT_FALSE(included.push_stop_token(kEndToken, out));
  EXPECT_EQ(out, "<end>");
}

}  // namespace
}  // namespace gimbal::server
