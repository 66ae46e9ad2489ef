#include "server/json_text.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "base/random.h"
#include "text/utf8.h"

namespace gimbal::server {
namespace {

std::string written(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(JsonTextTest, EscapesWhatJsonAsksFor) {
  EXPECT_EQ(written("a\"b\\c\n\r\t\b\f\x01\x7f/"), R"("a\"b\\c\n\r\t\b\f\u0001\u007f/")");
  EXPECT_EQ(written("\xE2\x82\xAC"), "\"\xE2\x82\xAC\"");
  EXPECT_EQ(written({}), "\"\"");
  EXPECT_EQ(written(std::string_view("\0", 1)), R"("\u0000")");
}

TEST(JsonTextTest, RepairsWhatIsNotUtf8) {
  EXPECT_EQ(written("a\xFFz\xE2\x82"), "\"a\xEF\xBF\xBDz\xEF\xBF\xBD\"");
}

TEST(JsonTextTest, IsReadBackForAnyBytes) {
  Rng rng(5);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes(rng.below(20), '\0');
    for (char& byte : bytes)
      byte = static_cast<char>(rng.below(256));
    std::string expected;
    text::Utf8Repair repair;
    repair.append(bytes, expected);
    repair.finish(expected);
    const auto parsed = parse_json(written(bytes));
    ASSERT_TRUE(parsed.ok()) << parsed.error().message;
    ASSERT_EQ(parsed->get<std::string>(), expected);
  }
}

}  // namespace
}  // namespace gimbal::server
