#include "server/http_parser.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "base/random.h"

namespace gimbal::server {
namespace {

constexpr std::size_t kMaxHeader = 1000;
constexpr std::size_t kMaxBody = 2000;

HttpParser fed(std::string_view bytes) {
  HttpParser parser(kMaxHeader, kMaxBody);
  static_cast<void>(parser.put(bytes));
  return parser;
}

TEST(HttpParserTest, ReadsARequest) {
  HttpParser parser =
      fed("POST /v1/x?a=b#c HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer k\r\nOrigin: o\r\n"
          "x-Data-parallel-RANK: 2\r\n"
          "Content-Length: 3\r\n\r\nabc");
  ASSERT_TRUE(parser.done());
  const HttpRequest request = parser.take();
  EXPECT_EQ(request.method, HttpMethod::kPost);
  EXPECT_EQ(request.path, "/v1/x");
  EXPECT_EQ(request.query, "a=b");
  EXPECT_EQ(request.authorization, "Bearer k");
  EXPECT_EQ(request.origin, "o");
  EXPECT_EQ(request.data_parallel_rank, "2");
  EXPECT_EQ(request.body, "abc");
  EXPECT_TRUE(request.keep_alive);
  EXPECT_TRUE(request.chunked_allowed);
}

TEST(HttpParserTest, ReadsChunksAndOlderVersions) {
  HttpParser chunked =
      fed("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
          "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
  ASSERT_TRUE(chunked.done());
  HttpRequest request = chunked.take();
  EXPECT_EQ(request.body, "abcde");
  EXPECT_FALSE(request.keep_alive);
  HttpParser old = fed("GET http://host:1/path HTTP/1.0\r\n\r\n");
  ASSERT_TRUE(old.done());
  request = old.take();
  EXPECT_EQ(request.path, "/path");
  EXPECT_EQ(request.query, "");
  EXPECT_FALSE(request.keep_alive);
  EXPECT_FALSE(request.chunked_allowed);
}

TEST(HttpParserTest, DoesNotTakeTheNextRequest) {
  const std::string first = "GET /a HTTP/1.1\r\n\r\n";
  HttpParser parser(kMaxHeader, kMaxBody);
  EXPECT_EQ(parser.put(first + "GET /b HTTP/1.1\r\n\r\n"), first.size());
  EXPECT_TRUE(parser.done());
}

TEST(HttpParserTest, TakesBytesInAnyPieces) {
  const std::string whole =
      "POST /p HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
  Rng rng(9);
  for (int round = 0; round < 300; ++round) {
    HttpParser parser(kMaxHeader, kMaxBody);
    std::string waiting;
    for (std::size_t at = 0; at < whole.size();) {
      const auto piece = std::min<std::size_t>(1 + rng.below(20), whole.size() - at);
      waiting += whole.substr(at, piece);
      at += piece;
      waiting.erase(0, parser.put(waiting));
      ASSERT_FALSE(parser.failed());
    }
    ASSERT_TRUE(parser.done());
    EXPECT_TRUE(parser.wants_continue());
    EXPECT_EQ(parser.take().body, "hello world");
  }
}

TEST(HttpParserTest, RefusesWhatIsTooLarge) {
  EXPECT_EQ(fed("POST / HTTP/1.1\r\nContent-Length: 2001\r\n\r\n").refusal().status, 413);
  EXPECT_EQ(
      fed("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7d1\r\n" + std::string(2001, 'x'))
          .refusal()
          .status,
      413);
  EXPECT_EQ(fed("GET / HTTP/1.1\r\nX: " + std::string(2000, 'x') + "\r\n\r\n").refusal().status,
            431);
  const HttpParser whole = fed("POST / HTTP/1.1\r\nContent-Length: 2000\r\n\r\n");
  EXPECT_FALSE(whole.failed());
  EXPECT_TRUE(whole.header_done());
  EXPECT_EQ(whole.body_bytes(), 0U);
}

// What is not body has the bound of the header, so that what waits for its end has one too.
TEST(HttpParserTest, RefusesChunkLinesAndTrailersThatAreTooLarge) {
  const std::string head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string begun : {"5;a=", "0\r\nX: "}) {
    const HttpParser parser = fed(head + begun + std::string(2000, 'x'));
    ASSERT_TRUE(parser.failed()) << begun;
    EXPECT_EQ(parser.refusal().status, 431);
    EXPECT_FALSE(fed(head + begun + std::string(900, 'x')).failed()) << begun;
  }
}

TEST(HttpParserTest, RefusesCodingsOfBodies) {
  for (const char* fine :
       {"Content-Encoding: Identity\r\nContent-Length: 0", "Transfer-Encoding: CHUNKED\r\nX: y"}) {
    EXPECT_FALSE(fed(fmt::format("POST / HTTP/1.1\r\n{}\r\n\r\n", fine)).failed()) << fine;
  }
  const HttpParser zipped =
      fed("POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc");
  ASSERT_TRUE(zipped.failed());
  EXPECT_EQ(zipped.refusal().status, 415);
  EXPECT_EQ(zipped.refusal().reason, "Content-Encoding must be identity, is 'gzip'");
  const HttpParser twice = fed("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n");
  ASSERT_TRUE(twice.failed());
  EXPECT_EQ(twice.refusal().status, 501);
}

TEST(HttpParserTest, RefusesWhatIsNoRequest) {
  for (const std::string_view bytes :
       {"hello\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n", "GET / HTTP/1.1\r\nA : b\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "\x16\x03\x01\x02\r\n\r\n"}) {
    const HttpParser parser = fed(bytes);
    ASSERT_TRUE(parser.failed()) << bytes;
    EXPECT_EQ(parser.refusal().status, 400);
    EXPECT_FALSE(parser.refusal().reason.empty());
  }
}

TEST(HttpParserTest, SurvivesRandomBytes) {
  Rng rng(3);
  const std::string seed =
      "POST /v1/completions HTTP/1.1\r\nContent-Length: 10\r\nHost: x\r\n\r\n0123456789";
  for (int round = 0; round < 5000; ++round) {
    std::string bytes = seed;
    for (int change = 0; change < 4; ++change) {
      bytes[rng.below(bytes.size())] = static_cast<char>(rng.below(256));
    }
    HttpParser parser = fed(bytes);
    if (parser.done()) static_cast<void>(parser.take());
  }
}

}  // namespace
}  // namespace gimbal::server
