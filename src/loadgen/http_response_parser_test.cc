#include "loadgen/http_response_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace gimbal::loadgen {
namespace {

using testing::HasSubstr;

struct Parsed {
  std::string error;
  std::string body;
  bool done = false;
  bool keep_alive = false;
  int status = 0;
  std::size_t taken = 0;
};

// Feeds `text` in pieces of `piece` bytes, then the connection's end where `close` says so.
Parsed parse(std::string_view text, std::size_t piece = 1 << 20, bool close = false) {
  HttpResponseParser parser;
  Parsed parsed;
  while (parsed.taken < text.size() && !parser.done()) {
    const std::string_view some = text.substr(parsed.taken, piece);
    const auto taken = parser.put(some, parsed.body);
    if (!taken.ok()) {
      parsed.error = taken.error().message;
      return parsed;
    }
    parsed.taken += *taken;
    if (*taken == 0) break;
  }
  if (close) {
    if (const auto ended = parser.end(); !ended.ok()) parsed.error = ended.error().message;
  }
  parsed.done = parser.done();
  if (parser.head_done()) parsed.status = parser.status();
  if (parser.done()) parsed.keep_alive = parser.keep_alive();
  return parsed;
}

constexpr std::string_view kChunked =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    "5\r\nhello\r\nB;x=y\r\n, and more\n\r\n0\r\nTrailer: t\r\n\r\n";

TEST(HttpResponseParser, ReadsChunksHoweverTheyAreCut) {
  for (std::size_t piece = 1; piece <= kChunked.size(); ++piece) {
    const Parsed parsed = parse(kChunked, piece);
    EXPECT_EQ(parsed.error, "");
    EXPECT_TRUE(parsed.done);
    EXPECT_TRUE(parsed.keep_alive);
    EXPECT_EQ(parsed.status, 200);
    EXPECT_EQ(parsed.body, "hello, and more\n");
    EXPECT_EQ(parsed.taken, kChunked.size());
  }
}

TEST(HttpResponseParser, ReadsABodyOfStatedLengthAndNoMore) {
  const Parsed parsed =
      parse("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 200");
  EXPECT_EQ(parsed.body, "abc");
  EXPECT_EQ(parsed.status, 429);
  EXPECT_TRUE(parsed.done);
  EXPECT_EQ(parsed.taken, 56u);
  EXPECT_TRUE(parse("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").done);
  EXPECT_TRUE(parse("HTTP/1.1 204 No Content\r\n\r\n").done);
  EXPECT_TRUE(parse("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n").done);
}

TEST(HttpResponseParser, ReadsABodyUpToTheEndOfTheConnection) {
  const std::string text = "HTTP/1.0 200 OK\n\nall of it";
  EXPECT_FALSE(parse(text).done);
  const Parsed parsed = parse(text, 3, true);
  EXPECT_TRUE(parsed.done);
  EXPECT_EQ(parsed.body, "all of it");
  EXPECT_FALSE(parsed.keep_alive);
}

TEST(HttpResponseParser, SkipsInterimAnswers) {
  const Parsed parsed = parse(
      "HTTP/1.1 100 Continue\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
      "2\r\n\r\nok");
  EXPECT_EQ(parsed.error, "");
  EXPECT_EQ(parsed.body, "ok");
  EXPECT_EQ(parsed.status, 200);
}

TEST(HttpResponseParser, KnowsWhetherTheConnectionStays) {
  const auto kept = [](const std::string& head) {
    return parse(head + "\r\nContent-Length: 0\r\n\r\n").keep_alive;
  };
  EXPECT_TRUE(kept("HTTP/1.1 200 OK"));
  EXPECT_FALSE(kept("HTTP/1.0 200 OK"));
  EXPECT_FALSE(kept("HTTP/1.1 200 OK\r\nConnection: Close"));
  EXPECT_TRUE(kept("HTTP/1.0 200 OK\r\nconnection: x, keep-alive"));
}

TEST(HttpResponseParser, SaysWhenTheConnectionEndsTooEarly) {
  for (std::size_t length = 0; length < kChunked.size(); ++length) {
    EXPECT_THAT(parse(kChunked.substr(0, length), 7, true).error, HasSubstr("closed")) << length;
  }
}

TEST(HttpResponseParser, RefusesWhatCannotBeReadSafely) {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  const std::string chunked = ok + "Transfer-Encoding: chunked\r\n\r\n";
  for (const std::string& bad :
       {std::string("GARBAGE\r\n"),
        std::string("HTTP/2 200 OK\r\n"),
        std::string("HTTP/1.1 20 OK\r\n"),
        std::string("HTTP/1.1 2000\r\n"),
        std::string("HTTP/1.1 999 OK\r\n"),
        std::string("HTTP/1.1 -20 OK\r\n"),
        std::string("\r\n"),
        ok + "no colon\r\n",
        ok + ": empty\r\n",
        ok + "a b: c\r\n",
        ok + " folded: x\r\n",
        ok + "Content-Length: -1\r\n",
        ok + "Content-Length: 1x\r\n",
        ok + "Content-Length: 99999999999999999999\r\n",
        ok + "Content-Length: 1\r\nContent-Length: 2\r\n",
        ok + "Transfer-Encoding: gzip\r\n",
        ok + "Transfer-Encoding: gzip, chunked\r\n",
        ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ok + "Content-Encoding: gzip\r\n",
        ok + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        chunked + "\r\n",
        chunked + "xyz\r\n",
        chunked + "-1\r\n",
        chunked + "0x5\r\n",
        chunked + "ffffffffffffffff\r\n",
        chunked + "11111111111111111\r\n",
        chunked + "2\r\nabc\r\n"}) {
    EXPECT_NE(parse(bad).error, "") << bad;
    EXPECT_NE(parse(bad, 1).error, "") << bad;
  }
}

TEST(HttpResponseParser, BoundsWhatItKeeps) {
  const std::string ok = "HTTP/1.1 200 OK\r\n";
  EXPECT_NE(parse(std::string(100'000, 'x'), 1000).error, "");
  EXPECT_NE(parse(ok + "a: " + std::string(100'000, 'x'), 1000).error, "");
  std::string many = ok;
  for (int i = 0; i < 10'000; ++i)
    many += "field: value\r\n";
  EXPECT_NE(parse(many, 1000).error, "");
  const std::string chunked = ok + "Transfer-Encoding: chunked\r\n\r\n";
  EXPECT_NE(parse(chunked + "5;" + std::string(5000, 'x'), 100).error, "");
  EXPECT_NE(parse(chunked + "0\r\n" + std::string(100'000, 'x'), 1000).error, "");
}

TEST(HttpResponseParser, EndsOnEveryDamagedAnswer) {
  Rng rng(3);
  for (int round = 0; round < 20'000; ++round) {
    std::string text(kChunked);
    for (std::uint64_t damage = 1 + rng.below(4); damage > 0; --damage) {
      const std::size_t at = rng.below(text.size());
      if (rng.below(3) == 0) {
        text.erase(at, 1 + rng.below(5));
      } else {
        text[at] = static_cast<char>(rng.below(256));
      }
    }
    const Parsed parsed = parse(text, 1 + rng.below(40), true);
    EXPECT_LE(parsed.body.size(), text.size());
    EXPECT_TRUE(parsed.done || !parsed.error.empty());
  }
}

}  // namespace
}  // namespace gimbal::loadgen
