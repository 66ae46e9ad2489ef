#include "server/server_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace gimbal::server {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

void count_a_choice(ServerMetrics& metrics, EngineId engine) {
  metrics.first_token(engine, milliseconds(3));
  metrics.next_token(engine, milliseconds(1));
  metrics.ended({.engine = engine,
                 .end = ChoiceEnd::kLength,
                 .latency = milliseconds(4),
                 .decode = milliseconds(1),
                 .prompt_tokens = 5,
                 .generated_tokens = 2});
}

std::string text_of(const ServerMetrics& metrics) {
  return metrics.expose({}, {});
}

TEST(ServerMetricsTest, OneEngineIsZeroFromTheStart) {
  ServerMetrics metrics("m");
  EXPECT_THAT(text_of(metrics),
              HasSubstr(R"(vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 0)"));
  metrics.set_engines(1);
  count_a_choice(metrics, EngineId{-1});
  const std::string text = text_of(metrics);
  EXPECT_THAT(text,
              HasSubstr(R"(vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 1)"));
  EXPECT_THAT(text, HasSubstr(R"(vllm:request_success_total{engine="0",finished_reason="length",)"
                              R"(model_name="m"} 1)"));
  EXPECT_THAT(text, Not(HasSubstr(R"(engine="all")")));
}

TEST(ServerMetricsTest, CountsChoicesByEngineOnceAnEngineHasAny) {
  ServerMetrics metrics("m", true);
  metrics.set_engines(3);
  EXPECT_THAT(text_of(metrics), Not(HasSubstr("vllm:")));
  count_a_choice(metrics, EngineId{2});
  count_a_choice(metrics, EngineId{2});
  count_a_choice(metrics, EngineId{0});
  metrics.refused(Refusal::kOverload);
  const std::string text = text_of(metrics);
  for (const char* name :
       {"vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds",
        "vllm:time_per_output_token_seconds", "vllm:request_time_per_output_token_seconds",
        "vllm:e2e_request_latency_seconds", "vllm:request_prompt_tokens",
        "vllm:request_generation_tokens"}) {
    EXPECT_THAT(text, HasSubstr(std::string(name) + R"(_count{engine="0",model_name="m"} 1)"));
    EXPECT_THAT(text, HasSubstr(std::string(name) + R"(_count{engine="2",model_name="m"} 2)"));
  }
  EXPECT_THAT(text, HasSubstr(R"(vllm:request_success_total{engine="2",finished_reason="length",)"
                              R"(model_name="m"} 2)"));
  EXPECT_THAT(text, Not(HasSubstr(R"(engine="1")")));
  EXPECT_THAT(text, HasSubstr(R"(gimbal:requests_refused_total{engine="all",model_name="m",)"
                              R"(reason="overload"} 1)"));
}

TEST(ServerMetricsTest, AChoiceThatNoEngineSpokeOfIsOfNone) {
  ServerMetrics metrics("m", true);
  metrics.set_engines(2);
  metrics.ended({.end = ChoiceEnd::kAbort, .prompt_tokens = 5});
  EXPECT_THAT(text_of(metrics),
              HasSubstr(R"(vllm:request_success_total{engine="none",finished_reason="abort",)"
                        R"(model_name="m"} 1)"));
}

TEST(ServerMetricsTest, ManyEnginesAreCountedTogether) {
  ServerMetrics metrics("m", true);
  metrics.set_engines(1024);
  for (int engine = 0; engine < 1024; ++engine)
    count_a_choice(metrics, EngineId{engine});
  const std::string text = text_of(metrics);
  EXPECT_THAT(
      text,
      HasSubstr(R"(vllm:time_to_first_token_seconds_count{engine="all",model_name="m"} 1024)"));
  EXPECT_THAT(text, Not(HasSubstr(R"(engine="7")")));
  EXPECT_LT(text.size(), 32U << 10);
}

}  // namespace
}  // namespace gimbal::server
