#include "loadgen/answer_reader.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"

namespace gimbal::loadgen {
namespace {

using report::RequestRecord;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
constexpr std::string_view kEnd = "0\r\n\r\n";

std::string chunk(std::string_view payload) {
  return fmt::format("{:x}\r\n{}\r\n", payload.size(), payload);
}
std::string token(std::string_view text) {
  return chunk(fmt::format("data: {{\"choices\":[{{\"text\":\"{}\"}}]}}\n\n", text));
}
std::string usage(int prompt, int output, int cached) {
  return chunk(fmt::format(
      "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{},"
      "\"prompt_tokens_details\":{{\"cached_tokens\":{}}}}}}}\n\n",
      prompt, output, cached));
}
std::string done() {
  return chunk("data: [DONE]\n\n");
}

RequestRecord sent_at(int ms) {
  RequestRecord record;
  record.sent = milliseconds(ms);
  record.prompt_tokens = 5;
  return record;
}

TEST(AnswerReader, MeasuresAStream) {
  AnswerReader reader(sent_at(1000), true);
  EXPECT_FALSE(reader.put(milliseconds(1040), kHead));
  EXPECT_TRUE(reader.started());
  EXPECT_FALSE(reader.put(milliseconds(1100), token("")));
  EXPECT_FALSE(reader.put(milliseconds(1110), token("a")));
  EXPECT_FALSE(reader.put(milliseconds(1150), token("b")));
  EXPECT_FALSE(reader.put(milliseconds(1170), usage(7, 3, 2)));
  EXPECT_TRUE(reader.put(milliseconds(1180), done() + std::string(kEnd)));
  EXPECT_TRUE(reader.reusable());
  const RequestRecord record = reader.take();
  EXPECT_EQ(record.error, "");
  EXPECT_EQ(record.ttft, milliseconds(100));
  EXPECT_EQ(record.ttft_content, milliseconds(110));
  EXPECT_THAT(record.gaps, ElementsAre(milliseconds(10), milliseconds(40)));
  EXPECT_EQ(record.e2e, milliseconds(150));  // usage and [DONE] are not part of it
  EXPECT_EQ(record.prompt_tokens, 7);
  EXPECT_EQ(record.output_tokens, 3);
  EXPECT_FALSE(record.without_usage);
  EXPECT_EQ(record.cached_tokens, 2);
  EXPECT_TRUE(record.tells_cached);
  EXPECT_EQ(record.text, "ab");
}

TEST(AnswerReader, CountsChunksWhereThereIsNoUsage) {
  AnswerReader reader(sent_at(0), false);
  EXPECT_TRUE(reader.put(
      milliseconds(5), std::string(kHead) + token("a") + token("b") + done() + std::string(kEnd)));
  const RequestRecord record = reader.take();
  EXPECT_EQ(record.output_tokens, 2);
  EXPECT_TRUE(record.without_usage);
  EXPECT_FALSE(record.tells_cached);
  EXPECT_EQ(record.prompt_tokens, 5);
  EXPECT_EQ(record.text, "");
  EXPECT_THAT(record.gaps, ElementsAre(Duration{}));
}

TEST(AnswerReader, GivesTheSameHoweverTheBytesAreCut) {
  const std::string whole =
      std::string(kHead) + token("a") + token("b") + usage(9, 2, 0) + done() + std::string(kEnd);
  for (std::size_t piece = 1; piece < whole.size(); ++piece) {
    AnswerReader reader(sent_at(0), true);
    for (std::size_t at = 0; at < whole.size(); at += piece) {
      reader.put(milliseconds(at), std::string_view(whole).substr(at, piece));
    }
    ASSERT_TRUE(reader.done()) << piece;
    EXPECT_TRUE(reader.reusable());
    const RequestRecord record = reader.take();
    EXPECT_EQ(record.error, "") << piece;
    EXPECT_EQ(record.text, "ab");
    EXPECT_EQ(record.gaps.size(), 1u);
    EXPECT_EQ(record.e2e, record.ttft + record.gaps[0]);
  }
}

TEST(AnswerReader, SaysWhatTheServerSaid) {
  AnswerReader reader(sent_at(0), false);
  EXPECT_TRUE(reader.put(milliseconds(1),
                         "HTTP/1.1 429 Too Many\r\nContent-Length: 28\r\n\r\n"
                         R"({"error":{"message":"full"}})"));
  EXPECT_TRUE(reader.reusable());
  EXPECT_EQ(reader.take().error, "HTTP 429: full");
  AnswerReader inside(sent_at(0), false);
  EXPECT_TRUE(inside.put(milliseconds(1),
                         std::string(kHead) + token("a") +
                             chunk("data: {\"error\":{\"message\":\"engine failed\"}}\n\n")));
  EXPECT_FALSE(inside.reusable());
  EXPECT_EQ(inside.take().error, "engine failed");
}

TEST(AnswerReader, CallsHalfAnswersFailures) {
  const auto error_of = [](const std::string& bytes) {
    AnswerReader reader(sent_at(0), false);
    reader.put(milliseconds(1), bytes);
    reader.end("closed");
    EXPECT_TRUE(reader.done());
    return reader.take().error;
  };
  const std::string head(kHead);
  const std::string end(kEnd);
  EXPECT_EQ(error_of(""), "closed");
  EXPECT_EQ(error_of(head + token("a")), "closed");
  EXPECT_EQ(error_of(head + token("a") + end), "the stream ended without [DONE]");
  EXPECT_EQ(error_of(head + done() + end), "the answer has no chunk with a choice");
  EXPECT_EQ(error_of("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
            "the answer has no chunk with a choice");
  EXPECT_THAT(error_of("HTTP/1.1 500 X\r\n\r\nbroken"), HasSubstr("HTTP 500: broken"));
  EXPECT_THAT(error_of(head + chunk("data: {not json}\n\n")), HasSubstr("JSON"));
  EXPECT_THAT(error_of("SSH-2.0\r\n"), HasSubstr("no status line"));
  EXPECT_THAT(error_of("HTTP/1.1 500 X\r\n\r\n" + std::string(100'000, 'x')),
              HasSubstr("HTTP 500"));
}

TEST(AnswerReader, BytesBehindTheAnswerSpoilTheConnection) {
  AnswerReader reader(sent_at(0), false);
  EXPECT_TRUE(reader.put(milliseconds(1),
                         std::string(kHead) + token("a") + done() + std::string(kEnd) + "X"));
  EXPECT_FALSE(reader.reusable());
  EXPECT_EQ(reader.take().error, "");
}

TEST(AnswerReader, EndsOnEveryDamagedAnswer) {
  const std::string whole =
      std::string(kHead) + token("a") + token("b") + usage(9, 2, 0) + done() + std::string(kEnd);
  Rng rng(5);
  for (int round = 0; round < 5000; ++round) {
    std::string text = whole;
    for (std::uint64_t damage = 1 + rng.below(4); damage > 0; --damage) {
      text[rng.below(text.size())] = static_cast<char>(rng.below(256));
    }
    AnswerReader reader(sent_at(0), true);
    reader.put(milliseconds(1), text);
    reader.end("closed");
    ASSERT_TRUE(reader.done());
    const RequestRecord record = reader.take();
    EXPECT_TRUE(!record.completed() || record.e2e >= record.ttft);
  }
}

}  // namespace
}  // namespace gimbal::loadgen
