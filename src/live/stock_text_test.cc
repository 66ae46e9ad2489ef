#include "live/stock_text.h"

#include <gtest/gtest.h>

#include <string_view>

namespace gimbal::live {
namespace {

TEST(StockText, IsPlainSentences) {
  for (const std::string_view sentence : stock_sentences()) {
    EXPECT_TRUE(sentence.ends_with(". ") || sentence.ends_with(".\n\n")) << sentence;
    for (const char c : sentence)
      EXPECT_TRUE(c == '\n' || (c >= ' ' && c <= '~'));
  }
}

}  // namespace
}  // namespace gimbal::live
