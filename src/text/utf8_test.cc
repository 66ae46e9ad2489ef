#include "text/utf8.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace gimbal::text {
namespace {

std::string repair(std::string_view bytes) {
  Utf8Repair repair;
  std::string out;
  repair.append(bytes, out);
  repair.finish(out);
  return out;
}

TEST(Utf8, ReplacesEachMaximalIllFormedPart) {
  const std::string r(kReplacementCharacter);
  EXPECT_EQ(repair("a\xE4\xBD\xA0z"), "a\xE4\xBD\xA0z");
  EXPECT_EQ(repair("\x80\xBF"), r + r);
  EXPECT_EQ(repair("\xC0\x80"), r + r);                           // overlong
  EXPECT_EQ(repair("\xE0\x80\x80"), r + r + r);                   // overlong
  EXPECT_EQ(repair("\xED\xA0\x80"), r + r + r);                   // surrogate
  EXPECT_EQ(repair("\xF0\x9F\x98"), r);                           // cut off
  EXPECT_EQ(repair("\xF0\x9F\x98z"), r + "z");                    // one maximal part
  EXPECT_EQ(repair("\xF4\x90\x80\x80"), r + r + r + r);           // above U+10FFFF
  EXPECT_EQ(repair("\xE4\xBD\xE4\xBD\xA0"), r + "\xE4\xBD\xA0");  // a new start in the middle
  EXPECT_EQ(repair("\xFF"), r);
}

TEST(Utf8, RepairedTextIsValidAndIndependentOfTheCuts) {
  Rng rng(7);
  // Bytes around which UTF-8's rules change.
  const std::string interesting =
      "a\x7F\x80\x8F\x90\x9F\xA0\xBF\xC1\xC2\xDF\xE0\xE1\xED\xEF\xF0\xF3\xF4\xF5";
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (std::uint64_t n = rng.below(12); n > 0; --n) {
      bytes.push_back(interesting[rng.below(interesting.size())]);
    }
    const std::string whole = repair(bytes);
    EXPECT_TRUE(is_valid_utf8(whole));
    EXPECT_EQ(whole == bytes, is_valid_utf8(bytes));
    Utf8Repair pieces;
    std::string out;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t size = 1 + rng.below(3);
      pieces.append(std::string_view(bytes).substr(at, size), out);
      EXPECT_TRUE(is_valid_utf8(out));
      at += size;
    }
    pieces.finish(out);
    EXPECT_EQ(out, whole);
  }
}

TEST(Utf8, ValidityCoversEveryCharacterAndNoSurrogate) {
  for (std::uint32_t c = 0x80; c < 0x110000; c += c < 0x800 ? 1 : 37) {
    std::string text;
    if (c < 0x800) {
      text = {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
    } else if (c < 0x10000) {
      text = {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
              static_cast<char>(0x80 | (c & 0x3F))};
    } else {
      text = {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
              static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
    }
    ASSERT_EQ(is_valid_utf8(text), c < 0xD800 || c > 0xDFFF) << c;
  }
}

}  // namespace
}  // namespace gimbal::text
