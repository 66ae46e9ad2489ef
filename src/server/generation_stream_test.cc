// When the chunks of a stream are written: on a clock and an exchange of the test's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "server/fake_engine.h"
#include "server/generation.h"
#include "server/server_fixture.h"

namespace gimbal::server {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Keeps what is written; a time to wake at is the test's to keep.
class FakeExchange final : public HttpExchange {
 public:
  [[nodiscard]] int loop() const override { return 0; }
  void respond(HttpResponse response) override { answer = std::move(response); }
  void start_stream(std::string_view) override { started = true; }
  [[nodiscard]] std::string& stream_buffer() override { return buffer; }
  void allow_backlog(std::size_t) override {}
  void flush() override { writes.push_back(std::exchange(buffer, {})); }
  void end_stream() override {
    flush();
    ended = true;
  }
  void wake_at(TimePoint time) override { wake = time; }

  bool started = false;
  bool ended = false;
  std::string buffer;
  std::vector<std::string> writes;
  std::optional<TimePoint> wake;
  std::optional<HttpResponse> answer;
};

std::vector<std::string> events_of(const std::string& payload) {
  std::vector<std::string> events;
  std::size_t at = 0;
  while (at < payload.size()) {
    const std::size_t end = payload.find("\n\n", at);
    if (end == std::string::npos) break;
    events.push_back(payload.substr(at + 6, end - at - 6));  // without "data: "
    at = end + 2;
  }
  return events;
}

class GenerationStreamTest : public ::testing::Test {
 protected:
  GenerationStreamTest() {
    clock_.advance(std::chrono::seconds(1));
    options_.stream_interval = milliseconds(5);
    router_.set_wake(0, [] {});
  }

  void start(std::string body, Endpoint endpoint = Endpoint::kCompletions) {
    generation_ = std::make_unique<Generation>(endpoint, exchange_, context_, "");
    generation_->start(std::move(body));
    for (const sched::Request& request : engine_.submitted(1))
      ids_.push_back(request.id);
  }
  // One step: the bytes of `text`, to as many choices.
  void step(std::string_view text, std::optional<sched::FinishReason> finish = {}) {
    for (std::size_t i = 0; i < text.size(); ++i)
      engine_.say(ids_[i], static_cast<unsigned char>(text[i]), finish);
    router_.deliver(0);
  }
  // Time goes on; the exchange wakes the job in it if it was asked to.
  void pass(Duration time) {
    const TimePoint end = clock_.now() + time;
    while (exchange_.wake && *exchange_.wake <= end) {
      clock_.set(std::max(clock_.now(), *std::exchange(exchange_.wake, {})));
      generation_->on_wake();
    }
    clock_.set(end);
  }
  // The texts of the chunks of each write, of all choices.
  [[nodiscard]] std::vector<std::vector<std::string>> texts() const {
    std::vector<std::vector<std::string>> all;
    for (const std::string& write : exchange_.writes) {
      std::vector<std::string> texts;
      for (const std::string& event : events_of(write)) {
        if (event == "[DONE]") continue;
        const Json chunk = parse_json(event).value();
        for (const Json& choice : chunk.value("choices", Json::array())) {
          const Json& said =
              choice.contains("text") ? choice.at("text") : choice.at("delta").at("content");
          texts.push_back(said.get<std::string>());
        }
      }
      all.push_back(std::move(texts));
    }
    return all;
  }

  ManualClock clock_;
  ServerOptions options_ = test_options();
  ByteCodec codec_;
  ServerMetrics metrics_{"tiny"};
  TokenRouter router_{1, clock_};
  FakeEngine engine_{router_};
  TextWorker worker_{1 << 20};
  Activity activity_;
  ServingContext context_{
      .options = options_,
      .engine = engine_,
      .codec = codec_,
      .router = router_,
      .metrics = metrics_,
      .worker = worker_,
      .activity = activity_,
      .clock = clock_,
      .post = {},
      .limits = {.max_model_len = 4096, .vocab_size = kFakeVocabulary, .longest_token_bytes = 8}};
  FakeExchange exchange_;
  std::vector<RequestId> ids_;
  std::unique_ptr<Generation> generation_;
};

using Texts = std::vector<std::string>;

TEST_F(GenerationStreamTest, WritesAtMostOnceInTheInterval) {
  start(R"({"prompt":"p","stream":true})");
  for (const char* token : {"a", "b", "c", "d", "e", "f", "g"}) {
    step(token);
    pass(milliseconds(2));
  }
  // a at 0; b and c, of 2 and 4, at 5; d and e, of 6 and 8, at 10; f and g wait
  // until 15.
  EXPECT_THAT(texts(), ElementsAre(Texts{"a"}, Texts{"bc"}, Texts{"de"}));
  pass(milliseconds(1));
  EXPECT_THAT(texts().back(), ElementsAre("fg"));
  EXPECT_EQ(texts().size(), 4U);
  EXPECT_EQ(exchange_.wake, std::nullopt);  // nothing waits
}

TEST_F(GenerationStreamTest, WritesATokenAtOnceThatComesLaterThanTheInterval) {
  start(R"({"prompt":"p","stream":true})");
  for (const char* token : {"a", "b", "c"}) {
    step(token);
    EXPECT_EQ(texts().back(), Texts{token});
    EXPECT_EQ(exchange_.wake, std::nullopt);
    pass(milliseconds(5));
  }
}

TEST_F(GenerationStreamTest, WritesEveryTokenAtOnceWithoutAnInterval) {
  options_.stream_interval = Duration::zero();
  start(R"({"prompt":"p","stream":true})");
  step("a");
  step("b");
  step("c");
  EXPECT_THAT(texts(), ElementsAre(Texts{"a"}, Texts{"b"}, Texts{"c"}));
  EXPECT_EQ(exchange_.wake, std::nullopt);
}

TEST_F(GenerationStreamTest, WritesTheEndAtOnceWithWhatWaited) {
  start(R"({"prompt":"p","stream":true,"stream_options":{"include_usage":true}})");
  step("a");
  step("b");
  step("c", sched::FinishReason::kLength);
  EXPECT_TRUE(exchange_.ended);
  EXPECT_THAT(texts(), ElementsAre(Texts{"a"}, Texts{"bc"}));
  const auto events = events_of(exchange_.writes.back());
  ASSERT_EQ(events.size(), 3U);  // the chunk, the usage, [DONE]
  EXPECT_EQ(parse_json(events[0]).value().at("choices").at(0).at("finish_reason"), "length");
  EXPECT_EQ(parse_json(events[1]).value().at("usage").at("completion_tokens"), 3);
  // A wake-up that was asked for before finds nothing to do.
  generation_->on_wake();
  EXPECT_EQ(exchange_.writes.size(), 2U);
}

TEST_F(GenerationStreamTest, WritesTheRestBeforeAnError) {
  start(R"({"prompt":"p","stream":true})");
  step("a");
  step("b");
  engine_.finish(ids_[0], sched::FinishReason::kFailed, "device lost");
  router_.deliver(0);
  EXPECT_TRUE(exchange_.ended);
  EXPECT_THAT(texts(), ElementsAre(Texts{"a"}, Texts{"b"}));
  EXPECT_THAT(exchange_.writes.back(), HasSubstr("device lost"));
}

TEST_F(GenerationStreamTest, EndsAtAStopStringAmongWhatWaits) {
  start(R"({"prompt":"p","stream":true,"stop":["END"]})");
  for (const char* token : {"a", "b", "E", "N"})
    step(token);
  EXPECT_THAT(texts(), ElementsAre(Texts{"a"}));
  step("D");
  EXPECT_THAT(texts(), ElementsAre(Texts{"a"}, Texts{"b"}));
  EXPECT_THAT(exchange_.writes.back(), HasSubstr(R"("stop_reason":"END")"));
  EXPECT_TRUE(exchange_.ended);
}

TEST_F(GenerationStreamTest, DoesNotWakeForWhatSaysNothingYet) {
  start(R"({"prompt":"p","stream":true,"stop":["END"]})");
  step("a");
  step("E");
  EXPECT_EQ(exchange_.wake, std::nullopt);
  step("x");
  pass(milliseconds(5));
  EXPECT_THAT(texts(), ElementsAre(Texts{"a"}, Texts{"Ex"}));
}

TEST_F(GenerationStreamTest, KeepsOffsetsOfLogprobsAcrossChunks) {
  start(R"({"prompt":"p","stream":true,"logprobs":0})");
  for (const TokenId token : {TokenId{'a'}, kHelloToken, TokenId{'b'}, TokenId{'c'}}) {
    cluster::TokenOutput output{.request = ids_[0], .token = token};
    output.logprobs = std::make_unique<sched::TokenLogprobs>(
        sched::TokenLogprobs{.token = token, .logprob = -1.0F});
    engine_.say(std::move(output));
    router_.deliver(0);
    pass(milliseconds(2));
  }
  pass(milliseconds(5));
  ASSERT_EQ(exchange_.writes.size(), 3U);
  std::vector<Json> logprobs;
  for (const std::string& write : exchange_.writes) {
    const Json chunk = parse_json(events_of(write).at(0)).value();
    logprobs.push_back(chunk.at("choices").at(0).at("logprobs"));
  }
  EXPECT_EQ(logprobs[0].at("text_offset"), Json::array({0}));
  EXPECT_EQ(logprobs[1].at("tokens"), Json({"hello", "b"}));
  EXPECT_EQ(logprobs[1].at("token_logprobs"), Json({-1.0, -1.0}));
  EXPECT_EQ(logprobs[1].at("text_offset"), Json({1, 6}));
  EXPECT_EQ(logprobs[2].at("text_offset"), Json({7}));
}

TEST_F(GenerationStreamTest, WritesAllChoicesTogether) {
  start(R"({"prompt":"p","n":2,"stream":true,"max_tokens":9})");
  step("aA");
  EXPECT_THAT(texts(), ElementsAre(Texts{"a", "A"}));
  step("bB");
  step("c");
  EXPECT_THAT(texts(), ElementsAre(Texts{"a", "A"}));
  pass(milliseconds(5));
  EXPECT_THAT(texts().back(), ElementsAre("bc", "B"));  // one chunk each
  step("d");
  step("eE", sched::FinishReason::kLength);  // both end
  EXPECT_THAT(texts().back(), ElementsAre("de", "E"));
  EXPECT_TRUE(exchange_.ended);
}

TEST_F(GenerationStreamTest, BringsWhatWaitsWhenAnotherChoiceBeginsOrEnds) {
  start(R"({"prompt":"p","n":2,"stream":true,"max_tokens":9})");
  step("a");
  step("b");
  step(" A");  // the second choice begins
  EXPECT_THAT(texts(), ElementsAre(Texts{"a"}, Texts{"b ", "A"}));
  step("c");
  engine_.say(ids_[1], 'B', sched::FinishReason::kLength);
  router_.deliver(0);
  EXPECT_THAT(texts().back(), ElementsAre("c", "B"));
  EXPECT_FALSE(exchange_.ended);
}

TEST_F(GenerationStreamTest, SendsTheEchoWithTheFirstToken) {
  start(R"({"prompt":"pq","echo":true,"stream":true})");
  step("a");
  step("b");
  pass(milliseconds(5));
  EXPECT_THAT(texts(), ElementsAre(Texts{"pqa"}, Texts{"b"}));
}

TEST_F(GenerationStreamTest, GivesTheRoleOnce) {
  start(R"({"messages":[{"role":"user","content":"hi"}],"stream":true})", Endpoint::kChat);
  step("a");
  step("b");
  step("c");
  pass(milliseconds(5));
  EXPECT_THAT(texts(), ElementsAre(Texts{"a"}, Texts{"bc"}));
  EXPECT_THAT(exchange_.writes[0], HasSubstr("assistant"));
  EXPECT_THAT(exchange_.writes[1], ::testing::Not(HasSubstr("assistant")));
}

TEST_F(GenerationStreamTest, CancelsWhenItIsDestroyedWhileAWriteIsPending) {
  start(R"({"prompt":"p","stream":true})");
  step("a");
  step("b");
  EXPECT_NE(exchange_.wake, std::nullopt);
  generation_.reset();
  EXPECT_THAT(engine_.cancelled(1), ElementsAre(ids_[0]));
  EXPECT_EQ(activity_.running(), 0);
  EXPECT_THAT(texts(), ElementsAre(Texts{"a"}));
}

TEST_F(GenerationStreamTest, AnswersAWholeDocumentAsBefore) {
  start(R"({"prompt":"p"})");
  step("a");
  step("b", sched::FinishReason::kLength);
  EXPECT_FALSE(exchange_.started);
  EXPECT_THAT(exchange_.writes, IsEmpty());
  ASSERT_TRUE(exchange_.answer);
  EXPECT_THAT(exchange_.answer->body, HasSubstr(R"("text":"ab")"));
}

// On real connections, where the socket's loop keeps the time.
using StreamConnectionTest = ServerTest;

std::string read_text(TestHttpClient& client, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes)
    text += event_json(client).at("choices").at(0).at("text").get<std::string>();
  return text;
}

TEST_F(StreamConnectionTest, WritesWhatWaitsWhenItsTimeHasCome) {
  ServerOptions options = test_options();
  options.stream_interval = milliseconds(2);
  start(options);
  TestHttpClient client(server->port());
  const RequestId id = open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true})");
  engine->say_bytes(id, "abcdef");  // and then nothing that would bring it along
  ASSERT_EQ(client.read_head().status, 200);
  EXPECT_EQ(read_text(client, 6), "abcdef");
}

TEST_F(StreamConnectionTest, CancelsWhenTheClientLeavesWhileAWriteIsPending) {
  ServerOptions options = test_options();
  options.stream_interval = std::chrono::hours(1);
  start(options);
  RequestId id;
  {
    TestHttpClient client(server->port());
    id = open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true})");
    engine->say(id, 'a');
    ASSERT_EQ(client.read_head().status, 200);
    EXPECT_EQ(read_text(client, 1), "a");
    engine->say(id, 'b');
    EXPECT_EQ(get("/health").status, 200);  // behind it on the server's one loop
  }
  EXPECT_THAT(engine->cancelled(1), ElementsAre(id));
  EXPECT_EQ(get("/health").status, 200);
}

TEST_F(StreamConnectionTest, AWaitOfOneAnswerDoesNotOutliveIt) {
  ServerOptions options = test_options();
  options.stream_interval = milliseconds(1);
  start(options);
  TestHttpClient client(server->port());
  for (int turn = 0; turn < 20; ++turn) {  // on one connection
    const RequestId id = open_stream(client, "/v1/completions", R"({"prompt":"p","stream":true})");
    engine->say_bytes(id, "abc");
    engine->say(id, 'd', sched::FinishReason::kLength);
    ASSERT_EQ(client.read_head().status, 200);
    EXPECT_EQ(read_text(client, 4), "abcd");
    EXPECT_EQ(client.read_event(), "[DONE]");
    EXPECT_EQ(client.read_event(), std::nullopt);
  }
}

}  // namespace
}  // namespace gimbal::server
