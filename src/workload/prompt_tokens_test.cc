#include "workload/prompt_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace gimbal::workload {
namespace {

RequestSpec of(std::vector<PromptPart> parts) {
  RequestSpec request;
  request.prompt = std::move(parts);
  return request;
}

TEST(PromptTokens, EqualPartsAreEqualTokens) {
  const TokenSpace space;
  const auto a = prompt_tokens(of({{7, 50, kAnyTopic}, {8, 20, kAnyTopic}}), space);
  const auto b = prompt_tokens(of({{7, 50, kAnyTopic}, {9, 20, kAnyTopic}}), space);
  ASSERT_EQ(a.size(), 70u);
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 50, b.begin()));
  EXPECT_FALSE(std::equal(a.begin() + 50, a.end(), b.begin() + 50));
  EXPECT_EQ(a, prompt_tokens(of({{7, 50, kAnyTopic}, {8, 20, kAnyTopic}}), space));
}

TEST(PromptTokens, AShorterPartIsThePrefixOfALongerOne) {
  const auto shorter = prompt_tokens(of({{3, 10, 0}}), {});
  const auto longer = prompt_tokens(of({{3, 30, 0}}), {});
  EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), longer.begin()));
}

TEST(PromptTokens, StayInTheRangeOfTheirTopic) {
  const TokenSpace space{.vocab_size = 1001, .first = 50, .topics = 4};
  ASSERT_TRUE(validate(space).ok());
  const int edges[] = {50, 251, 501, 751, 1001};  // ⌈t · 1001 / 4⌉, but not below 50
  for (int topic = 0; topic < 4; ++topic) {
    const auto tokens = prompt_tokens(of({{1, 4000, topic}}), space);
    EXPECT_GE(*std::min_element(tokens.begin(), tokens.end()), edges[topic]);
    EXPECT_LT(*std::max_element(tokens.begin(), tokens.end()), edges[topic + 1]);
    // All ids of the range are used.
    EXPECT_GT(std::set<TokenId>(tokens.begin(), tokens.end()).size(), 190u);
  }
  const auto any = prompt_tokens(of({{1, 8000, kAnyTopic}}), space);
  EXPECT_EQ(*std::min_element(any.begin(), any.end()), 50);
  EXPECT_EQ(*std::max_element(any.begin(), any.end()), 1000);
}

TEST(PromptTokens, RefusesSpacesWithoutTokens) {
  EXPECT_TRUE(validate({}).ok());
  EXPECT_EQ(validate({.vocab_size = 0}).error().field, "vocab_size");
  EXPECT_EQ(validate({.vocab_size = 100, .first = 100}).error().field, "first");
  EXPECT_EQ(validate({.vocab_size = 100, .first = -1}).error().field, "first");
  EXPECT_EQ(validate({.vocab_size = 100, .first = 0, .topics = 0}).error().field, "topics");
  EXPECT_EQ(validate({.vocab_size = 100, .first = 10, .topics = 20}).error().field, "topics");
}

TEST(PromptTokens, TextSharesPrefixesToo) {
  const std::string a = prompt_text(of({{7, 5, kAnyTopic}, {8, 5, kAnyTopic}}), {});
  const std::string b = prompt_text(of({{7, 5, kAnyTopic}, {9, 5, kAnyTopic}}), {});
  EXPECT_EQ(std::count(a.begin(), a.end(), ' '), 9);
  const auto shared = static_cast<std::size_t>(
      std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
  EXPECT_GE(std::count(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(shared), ' '), 5);
  RequestSpec told = of({{7, 5, kAnyTopic}});
  told.text = "as it was";
  EXPECT_EQ(prompt_text(told, {}), "as it was");
}

}  // namespace
}  // namespace gimbal::workload
