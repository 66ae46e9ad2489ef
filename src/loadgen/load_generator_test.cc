#include "loadgen/load_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loadgen/http_get.h"
#include "loadgen/scripted_server.h"
#include "report/serve_result.h"

namespace gimbal::loadgen {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using workload::RequestSpec;
using workload::Workload;

RequestSpec request(std::int64_t output, std::string user = "") {
  RequestSpec made;
  made.prompt = {{.identity = 7, .tokens = 20}};
  made.output_tokens = output;
  made.user = std::move(user);
  return made;
}

Workload of(std::size_t count, std::int64_t output = 5) {
  Workload workload;
  workload.requests.assign(count, request(output));
  return workload;
}

LoadResult run(const Workload& workload, const ScriptedServer& server,
               const LoadOptions& options = {}) {
  auto result = run_load(workload, server.url(), options);
  EXPECT_TRUE(result.ok()) << result.error().message;
  return std::move(*result);
}

TEST(LoadGenerator, MeasuresEveryRequest) {
  const ScriptedServer server;
  Workload workload = of(50);
  for (std::size_t i = 0; i < 50; ++i) {
    workload.requests[i].arrival = milliseconds(i);
    workload.requests[i].output_tokens = static_cast<std::int64_t>(1 + i % 7);
  }
  const LoadResult result = run(workload, server, {.keep_text = true});
  ASSERT_EQ(result.records.size(), 50u);
  EXPECT_EQ(result.lags.size(), 50u);
  EXPECT_EQ(result.dropped, 0);
  EXPECT_EQ(result.unsent, 0);
  for (std::size_t i = 0; i < 50; ++i) {
    const auto& record = result.records[i];
    const auto tokens = 1 + i % 7;
    EXPECT_EQ(record.error, "");
    EXPECT_EQ(record.scheduled, milliseconds(i));
    EXPECT_GE(record.sent, record.scheduled);
    EXPECT_GE(record.e2e, record.ttft);
    EXPECT_EQ(record.prompt_tokens, 20);
    EXPECT_EQ(record.output_tokens, static_cast<std::int64_t>(tokens));
    EXPECT_EQ(record.gaps.size(), tokens - 1);
    EXPECT_EQ(record.text, std::string(tokens, 'x'));
    EXPECT_LE(record.sent + record.e2e, result.duration);
  }
  const auto summary = report::summarize(result.records, {}, result.duration);
  EXPECT_TRUE(summary.identity.holds());
  EXPECT_EQ(summary.identity.uneven_chunks, 0);
}

TEST(LoadGenerator, IsAnOpenLoop) {
  // The server answers nobody before all have come: a closed loop would wait for ever.
  const ScriptedServer server({.hold_until = 200});
  const LoadResult result = run(of(200), server);
  EXPECT_EQ(result.records.size(), 200u);
  EXPECT_EQ(server.counters().most_open, 200);
}

TEST(LoadGenerator, UsesConnectionsAgain) {
  const ScriptedServer server;
  run(of(60), server, {.max_concurrency = 3});
  EXPECT_EQ(server.counters().requests, 60);
  EXPECT_LE(server.counters().connections, 3);
}

TEST(LoadGenerator, OpensNewConnectionsWhereTheServerClosesThem) {
  const ScriptedServer server({.keep_alive = false});
  const LoadResult result = run(of(30), server, {.max_concurrency = 2});
  for (const auto& record : result.records)
    EXPECT_EQ(record.error, "");
  EXPECT_EQ(server.counters().connections, 30);
}

TEST(LoadGenerator, KeepsToItsLimitAndUsesItWhole) {
  const ScriptedServer server({.hold_until = 4});
  const LoadResult result = run(of(40), server, {.max_concurrency = 4});
  EXPECT_EQ(result.records.size(), 40u);
  EXPECT_EQ(server.counters().most_open, 4);
  EXPECT_EQ(result.lags.size(), 40u);
}

TEST(LoadGenerator, KeepsFailuresApart) {
  const ScriptedServer server;
  Workload workload = of(5);
  workload.requests[1].user = "refused";
  workload.requests[2].user = "broken";
  workload.requests[3].user = "garbage";
  const LoadResult result = run(workload, server);
  ASSERT_EQ(result.records.size(), 5u);
  EXPECT_EQ(result.records[0].error, "");
  EXPECT_EQ(result.records[1].error, "HTTP 429: full");
  EXPECT_THAT(result.records[2].error, HasSubstr("closed the connection"));
  EXPECT_THAT(result.records[3].error, HasSubstr("no status line"));
  EXPECT_EQ(result.records[4].error, "");
}

TEST(LoadGenerator, GivesUpOnASilentServer) {
  const ScriptedServer server;
  Workload workload;
  workload.requests = {request(5, "silent")};
  const LoadResult result = run(workload, server, {.request_timeout = milliseconds(1)});
  ASSERT_EQ(result.records.size(), 1u);
  EXPECT_EQ(result.records[0].error, "no answer within the time limit");
}

TEST(LoadGenerator, StopsWhenItIsTold) {
  const ScriptedServer server;
  Workload workload = of(3);
  workload.requests.push_back(request(5, "silent"));
  workload.requests.push_back(request(5));
  workload.requests.back().arrival = std::chrono::hours(100);
  std::atomic<bool> stop{false};
  const LoadResult result =
      run(workload, server, {.stop = &stop, .on_progress = [&](const LoadProgress& progress) {
                               stop = progress.answered == 3 && progress.sent == 4;
                             }});
  EXPECT_EQ(result.records.size(), 3u);
  EXPECT_EQ(result.dropped, 1);
  EXPECT_EQ(result.unsent, 1);
  EXPECT_LT(result.duration, std::chrono::hours(100));
}

TEST(LoadGenerator, SaysWhenNobodyListens) {
  TargetUrl url;
  {
    const ScriptedServer server;
    url = server.url();
  }
  const auto result = run_load(of(2), url, {});
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result->records.size(), 2u);
  EXPECT_THAT(result->records[0].error, HasSubstr("cannot connect"));
}

TEST(LoadGenerator, OfNothingIsDoneAtOnce) {
  const ScriptedServer server;
  const LoadResult result = run({}, server);
  EXPECT_TRUE(result.records.empty());
}

TEST(LoadGenerator, RefusesOptionsThatMakeNoSense) {
  const auto result = run_load(of(1), {.host = "127.0.0.1"}, {.request = {.endpoint = "x"}});
  EXPECT_EQ(result.error().field, "endpoint");
}

TEST(HttpGet, ReadsAnAnswer) {
  const ScriptedServer server;
  const auto reply = http_get(server.url(), "/v1/models", "", std::chrono::minutes(1));
  ASSERT_TRUE(reply.ok()) << reply.error().message;
  EXPECT_EQ(reply->status, 200);
  EXPECT_THAT(reply->body, HasSubstr("scripted"));
}

TEST(HttpGet, SaysWhenNobodyListens) {
  TargetUrl url;
  {
    const ScriptedServer server;
    url = server.url();
  }
  EXPECT_THAT(http_get(url, "/", "", std::chrono::minutes(1)).error().message,
              HasSubstr("cannot connect"));
}

}  // namespace
}  // namespace gimbal::loadgen
