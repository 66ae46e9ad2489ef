#include "loadgen/http_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gimbal::loadgen {
namespace {

using testing::HasSubstr;

TEST(HttpHeader, ReadsKeyAndValue) {
  EXPECT_EQ(parse_header("x-info=0.3.3").value(), (HttpHeader{"x-info", "0.3.3"}));
  EXPECT_EQ(parse_header(" A = b=c d ").value(), (HttpHeader{"A", "b=c d"}));
  EXPECT_EQ(parse_header("A=").value(), (HttpHeader{"A", ""}));
}

TEST(HttpHeader, RefusesWhatWouldBreakTheHead) {
  for (const char* bad :
       {"", "=", "=x", "name", "a b=c", "a:=c", "a\r\nb=c", "a=b\r\nX: y", "a=\x7f", "\xc3\xa9=c",
        "Content-Length=3", "transfer-encoding=chunked", "connection=close"}) {
    const auto header = parse_header(bad);
    ASSERT_FALSE(header.ok()) << bad;
    EXPECT_THAT(header.error().message, HasSubstr("--header")) << bad;
  }
  const std::vector<std::string> one_is_bad{"a=b", "c"};
  EXPECT_FALSE(parse_headers(one_is_bad).ok());
}

TEST(HttpHeader, AddedFieldsTakeThePlaceOfDefaults) {
  const std::vector<HttpHeader> defaults{{"Host", "h"}, {"Authorization", "Bearer k"}};
  const std::vector<HttpHeader> added{{"authorization", "Basic x"}, {"X-A", "1"}};
  EXPECT_EQ(header_lines(defaults, {}), "Host: h\r\nAuthorization: Bearer k\r\n");
  EXPECT_EQ(header_lines(defaults, added), "Host: h\r\nauthorization: Basic x\r\nX-A: 1\r\n");
}

}  // namespace
}  // namespace gimbal::loadgen
