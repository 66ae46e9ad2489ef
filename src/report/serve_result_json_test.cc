#include "report/serve_result_json.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace gimbal::report {
namespace {

using std::chrono::milliseconds;

std::vector<RequestRecord> two() {
  RequestRecord first{.scheduled = milliseconds(5), .sent = milliseconds(6)};
  first.ttft = milliseconds(100);
  first.ttft_content = milliseconds(110);
  first.e2e = milliseconds(150);
  first.gaps = {milliseconds(10), milliseconds(40)};
  first.prompt_tokens = 7;
  first.output_tokens = 3;
  first.cached_tokens = 4;
  first.tells_cached = true;
  first.traffic_class = "LS";
  first.user = "a.b";
  RequestRecord second{.scheduled = milliseconds(9), .sent = milliseconds(9)};
  second.traffic_class = "BE";
  second.error = "HTTP 500";
  return {first, second};
}

TEST(ServeResultJson, HasTheNamesOfVllm) {
  const auto records = two();
  const auto json =
      to_json(summarize(records, {}, milliseconds(1000), {.goodput = {{Metric::kTtft, 200.0}}}),
              {.model_id = "demo", .num_prompts = 2, .request_rate = 3.5, .seed = 4},
              {.metrics = {Metric::kTtft, Metric::kE2el}, .percentiles = {50.0, 99.9}});
  EXPECT_EQ(json["duration"], 1.0);
  EXPECT_EQ(json["completed"], 1);
  EXPECT_EQ(json["failed"], 1);
  EXPECT_EQ(json["total_input_tokens"], 7);
  EXPECT_EQ(json["total_output_tokens"], 3);
  EXPECT_EQ(json["request_throughput"], 1.0);
  EXPECT_EQ(json["request_goodput"], 1.0);
  EXPECT_EQ(json["output_throughput"], 3.0);
  EXPECT_EQ(json["total_token_throughput"], 10.0);
  EXPECT_EQ(json["mean_ttft_ms"], 100.0);
  EXPECT_EQ(json["median_ttft_ms"], 100.0);
  EXPECT_EQ(json["std_ttft_ms"], 0.0);
  EXPECT_EQ(json["p50_ttft_ms"], 100.0);
  EXPECT_EQ(json["p99.9_e2el_ms"], 150.0);
  EXPECT_FALSE(json.contains("mean_tpot_ms"));
  EXPECT_EQ(json["model_id"], "demo");
  EXPECT_EQ(json["request_rate"], 3.5);
  EXPECT_EQ(json["seed"], 4);
  EXPECT_EQ(json["classes"]["LS"]["mean_e2el_ms"], 150.0);
  EXPECT_EQ(json["classes"]["BE"]["failed"], 1);
  EXPECT_EQ(json["users"]["a.b"]["total_cached_tokens"], 4);
  EXPECT_EQ(json["prefix_hit_rate"], 4.0 / 7.0);
  EXPECT_TRUE(json["classes"]["BE"]["prefix_hit_rate"].is_null());  // none was answered
  EXPECT_EQ(json["identity_check"]["holds"], true);
  EXPECT_EQ(json["valid"], true);
}

TEST(ServeResultJson, WritesWhatIsNotThereAsVllmDoes) {
  const auto json = to_json(summarize({}, {}, milliseconds(1000)), {});
  EXPECT_EQ(json["request_rate"], "inf");
  EXPECT_TRUE(json["request_goodput"].is_null());
  EXPECT_TRUE(json["prefix_hit_rate"].is_null());
  EXPECT_TRUE(json["max_concurrency"].is_null());
}

TEST(ServeResultJson, DetailsComeBackAsTheyWere) {
  const auto records = two();
  nlohmann::json document = to_json(summarize(records, {}, milliseconds(1000)), {});
  document.update(details_json(records));
  const auto saved = parse_saved_result(document, "x.json");
  ASSERT_TRUE(saved.ok()) << saved.error().message;
  ASSERT_EQ(saved->records.size(), 2u);
  const RequestRecord& first = saved->records[0];
  EXPECT_EQ(first.scheduled, records[0].scheduled);
  EXPECT_EQ(first.sent, records[0].sent);
  EXPECT_EQ(first.ttft, records[0].ttft);
  EXPECT_EQ(first.ttft_content, records[0].ttft_content);
  EXPECT_EQ(first.gaps, records[0].gaps);
  EXPECT_EQ(first.e2e, records[0].e2e);
  EXPECT_EQ(first.prompt_tokens, 7);
  EXPECT_EQ(first.cached_tokens, 4);
  EXPECT_EQ(first.traffic_class, "LS");
  EXPECT_EQ(first.user, "a.b");
  EXPECT_EQ(saved->records[1].error, "HTTP 500");
}

TEST(ServeResultJson, FindsNumbersByPath) {
  const auto records = two();
  const auto saved =
      parse_saved_result(to_json(summarize(records, {}, milliseconds(1000)), {}), "x.json");
  ASSERT_TRUE(saved.ok());
  EXPECT_EQ(saved->number("mean_ttft_ms"), 100.0);
  EXPECT_EQ(saved->number("classes.LS.mean_ttft_ms"), 100.0);
  EXPECT_EQ(saved->number("request_rate"), std::nullopt);  // "inf"
  EXPECT_EQ(saved->number("classes.none.mean_ttft_ms"), std::nullopt);
  EXPECT_EQ(saved->number("classes"), std::nullopt);
  EXPECT_EQ(saved->number(""), std::nullopt);
}

TEST(ServeResultJson, ReadsResultsOfVllm) {
  const auto saved =
      parse_saved_result(*parse_json(R"({"duration": 2.5, "completed": 2, "ttfts": [0.5, 0.25],
                      "itls": [[0.125], []], "input_lens": [10, 20], "output_lens": [2, 1],
                      "errors": ["", ""], "generated_texts": ["a", "b"]})"),
                         "vllm.json");
  ASSERT_TRUE(saved.ok()) << saved.error().message;
  EXPECT_EQ(saved->records[0].e2e, milliseconds(625));
  EXPECT_EQ(saved->records[1].prompt_tokens, 20);
  EXPECT_TRUE(saved->records[0].completed());
}

TEST(ServeResultJson, SaysWhyAResultIsNotToBeTrusted) {
  const auto reason = [](const std::string& fields) {
    const auto saved =
        parse_saved_result(*parse_json(R"({"duration":1,"completed":1)" + fields + "}"), "x.json");
    return saved.value().invalid_reason();
  };
  EXPECT_EQ(reason(""), "");
  EXPECT_EQ(reason(R"(,"valid":true,"invalid_reason":"","interrupted":false)"), "");
  EXPECT_EQ(reason(R"(,"valid":false,"invalid_reason":"late")"), "late");
  EXPECT_EQ(reason(R"(,"valid":false)"), "it gives no reason");
  EXPECT_EQ(reason(R"(,"valid":true,"interrupted":true)"), "interrupted");
  EXPECT_EQ(reason(R"(,"valid":null,"interrupted":1)"), "");
}

TEST(ServeResultJson, ReadsResultsThatWereAppended) {
  const std::string one = R"({"duration": 1, "completed": 3})";
  const auto alone = parse_saved_results("{\n\"duration\": 1,\n\"completed\": 3}\n", "x.json");
  ASSERT_TRUE(alone.ok());
  EXPECT_EQ(alone->front().path, "x.json");
  const auto both = parse_saved_results(one + "\n\n" + one + "\n", "x.json");
  ASSERT_TRUE(both.ok()) << both.error().message;
  ASSERT_EQ(both->size(), 2u);
  EXPECT_EQ((*both)[1].path, "x.json:3");
  EXPECT_EQ((*both)[1].number("completed"), 3.0);
  const auto message = [](const std::string& text) {
    const auto results = parse_saved_results(text, "x.json");
    return results.ok() ? std::string("accepted") : results.error().message;
  };
  EXPECT_TRUE(message(one + "\n" + one.substr(0, 9)).starts_with("x.json:2: "));
  EXPECT_TRUE(message(one + "\n{}").starts_with("x.json:2: not a result"));
  for (const char* bad : {"", "\n", "{\n\"duration\"", "[1]"}) {
    EXPECT_TRUE(message(bad).starts_with("x.json: ")) << bad;
  }
}

TEST(ServeResultJson, NamesWhatIsWrongInAFile) {
  const auto message = [](const char* text) {
    const auto saved = parse_saved_result(*parse_json(text), "x.json");
    return saved.ok() ? std::string("accepted") : saved.error().message;
  };
  const auto with = [&](const std::string& fields) {
    return message((R"({"duration":1,"completed":1,)" + fields + "}").c_str());
  };
  EXPECT_NE(message("[]").find("is an object"), std::string::npos);
  EXPECT_NE(message("{}").find("no duration"), std::string::npos);
  EXPECT_NE(with(R"("ttfts":1)").find("ttfts must be a list"), std::string::npos);
  EXPECT_NE(with(R"("ttfts":["a"])").find("ttfts[0]"), std::string::npos);
  EXPECT_NE(with(R"("ttfts":[1e300])").find("ttfts[0]"), std::string::npos);
  EXPECT_NE(with(R"("ttfts":[1],"itls":[])").find("itls must have"), std::string::npos);
  EXPECT_NE(with(R"("ttfts":[1],"itls":[1])").find("itls[0]"), std::string::npos);
  EXPECT_NE(with(R"("ttfts":[1],"itls":[[null]])").find("itls[0][0]"), std::string::npos);
  EXPECT_NE(with(R"("ttfts":[1],"input_lens":[-1])").find("input_lens[0]"), std::string::npos);
  EXPECT_NE(with(R"("ttfts":[1],"errors":[1])").find("errors[0]"), std::string::npos);
}

}  // namespace
}  // namespace gimbal::report
