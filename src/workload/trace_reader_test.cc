#include "workload/trace_reader.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "base/random.h"
#include "base/temporary_folder.h"
#include "workload/multi_turn.h"
#include "workload/statistics.h"
#include "workload/trace_writer.h"
#include "workload/transforms.h"

namespace gimbal::workload {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

Workload parsed(std::string_view text, const TraceOptions& options = {}) {
  auto workload = parse_trace(text, options);
  EXPECT_TRUE(workload.ok()) << workload.error().message;
  return workload.ok() ? std::move(*workload) : Workload{};
}

std::string message_of(std::string_view text, const TraceOptions& options = {}) {
  const auto workload = parse_trace(text, options);
  return workload.ok() ? "accepted" : workload.error().message;
}

constexpr std::string_view kAzure =
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 23:59:59.6805900,374,44\r\n"
    "2023-11-17 00:00:00.0000001,396,109\r\n"
    "2023-11-17 00:00:01,879,0";

TEST(TraceReader, ReadsAzure) {
  const Workload workload = parsed(kAzure);
  ASSERT_EQ(workload.requests.size(), 2u);
  EXPECT_EQ(workload.requests[0].arrival, Duration{});
  EXPECT_EQ(workload.requests[1].arrival, nanoseconds(319'410'100));
  EXPECT_EQ(workload.requests[0].prompt_tokens(), 374);
  EXPECT_EQ(workload.requests[1].output_tokens, 109);
  EXPECT_EQ(workload.skipped_rows, 1);
  EXPECT_TRUE(workload.has_arrivals);
  EXPECT_FALSE(workload.has_prefixes);
  EXPECT_EQ(statistics_of(workload).shared_prompt_tokens, 0);
  EXPECT_EQ(workload.name, "azure trace");
}

TEST(TraceReader, ReadsTheTimesOfTheAzureTraceOf2024) {
  const Workload workload = parsed(
      "TIMESTAMP,ContextTokens,GeneratedTokens\n"
      "2024-05-10 00:00:00.009930+00:00,2162,5\n"
      "2024-05-10T00:00:00.017335Z,2399,6\n");
  EXPECT_EQ(workload.requests[1].arrival, nanoseconds(7'405'000));
}

TEST(TraceReader, NamesLineAndColumnOfAzure) {
  const auto with = [](const std::string& row) {
    return message_of("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1,1\n" + row);
  };
  EXPECT_THAT(with("2023-11-16 18:15:46,x,1"), HasSubstr("line 3, column ContextTokens"));
  EXPECT_THAT(with("2023-11-16 18:15:46,1,-1"), HasSubstr("line 3, column GeneratedTokens"));
  EXPECT_THAT(with("2023-11-16 18:15:46,1,1.5"), HasSubstr("an integer"));
  for (const char* time : {"yesterday", "2023-13-16 18:15:46", "2023-02-30 18:15:46",
                           "2023-11-16 24:15:46", "2023-11-16", "1999-12-31 23:59:59",
                           "2100-01-01 00:00:00", "2023-11-16 18:15:46.", "2023-11-16 18:15:46x",
                           "1923-11-16 18:15:46", "-023-11-16 18:15:46", "2023-11-16 18:15:4"}) {
    EXPECT_THAT(with(std::string(time) + ",1,1"), HasSubstr("line 3, column TIMESTAMP")) << time;
  }
  EXPECT_THAT(message_of("TIMESTAMP,ContextTokens\n"), HasSubstr("no column GeneratedTokens"));
}

TEST(TraceReader, ReadsBurstGptByColumnNames) {
  const Workload workload = parsed(
      "Model,Timestamp,Request tokens,Response tokens,Total tokens,Log Type,Session ID\n"
      "ChatGPT,5,472,18,490,Conversation log,s1\n"
      "GPT-4,45.5,1087,230,1317,API log,s2\n"
      "ChatGPT,50,10,0,10,Conversation log,s1\n");
  ASSERT_EQ(workload.requests.size(), 2u);
  EXPECT_EQ(workload.requests[1].arrival, milliseconds(40'500));
  EXPECT_EQ(workload.requests[0].prompt_tokens(), 472);
  EXPECT_EQ(workload.requests[1].output_tokens, 230);
  EXPECT_EQ(workload.requests[1].user, "s2");
  EXPECT_EQ(workload.skipped_rows, 1);
  EXPECT_THAT(message_of("Timestamp,Model,Request tokens,Response tokens\n1,m,2,3\nx,m,2,3\n"),
              HasSubstr("line 3, column Timestamp"));
}

TEST(TraceReader, ReadsShareGptLengths) {
  const Workload workload = parsed(
      "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n"
      "74,918,992,0.08\n290,905,1195,0.32\n");
  ASSERT_EQ(workload.requests.size(), 2u);
  EXPECT_EQ(workload.requests[0].prompt_tokens(), 74);
  EXPECT_EQ(workload.requests[1].output_tokens, 905);
  EXPECT_FALSE(workload.has_arrivals);
}

constexpr std::string_view kMooncake =
    R"({"timestamp": 0, "input_length": 1030, "output_length": 500, "hash_ids": [0, 1, 2]})"
    "\n"
    R"({"timestamp": 27, "input_length": 1024, "output_length": 4, "hash_ids": [0, 1]})"
    "\n\n"
    R"({"timestamp": 12.5, "input_length": 600, "output_length": 7, "hash_ids": [0, 9]})"
    "\n";

TEST(TraceReader, ReadsMooncake) {
  const Workload workload = parsed(kMooncake);
  ASSERT_EQ(workload.requests.size(), 3u);
  EXPECT_EQ(workload.requests[1].arrival, nanoseconds(12'500'000));  // in order of arrival
  EXPECT_EQ(workload.requests[0].prompt_tokens(), 1030);
  ASSERT_EQ(workload.requests[0].prompt.size(), 3u);
  EXPECT_EQ(workload.requests[0].prompt[2].tokens, 6);
  EXPECT_TRUE(workload.has_prefixes);
  // The second shares block 0, the third blocks 0 and 1.
  EXPECT_EQ(statistics_of(workload).shared_prompt_tokens, 512 + 1024);
}

TEST(TraceReader, FindsTheBlockSizeOfMooncake) {
  const std::string small =
      R"({"timestamp":0,"input_length":40,"output_length":1,"hash_ids":[5,6,7]})";
  EXPECT_EQ(parsed(small).requests[0].prompt[0].tokens, 16);
  EXPECT_EQ(parsed(small, {.block_size = 18}).requests[0].prompt[0].tokens, 18);
  EXPECT_THAT(message_of(small, {.block_size = 20}),
              HasSubstr("line 1, column 63: hash_ids has 3 blocks"));
  EXPECT_THAT(message_of(small, {.block_size = 0}), HasSubstr("a block has"));
}

TEST(TraceReader, TokensBeyondTheNamedBlocksAreOfOnePromptAlone) {
  const Workload workload =
      parsed(R"({"timestamp":0,"input_length":600,"output_length":1,"hash_ids":[5]})"
             "\n"
             R"({"timestamp":0,"input_length":600,"output_length":1,"hash_ids":[5]})");
  EXPECT_EQ(workload.requests[0].prompt.size(), 2u);
  EXPECT_EQ(statistics_of(workload).shared_prompt_tokens, 512);
}

TEST(TraceReader, NamesLineColumnAndFieldOfMooncake) {
  const auto with = [](const std::string& fields) {
    return message_of(R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[1]})"
                      "\n{" +
                      fields + "}\n");
  };
  // What is missing is missing from the object.
  EXPECT_THAT(with(R"("input_length":1,"output_length":1,"hash_ids":[1])"),
              HasSubstr("line 2, column 1: timestamp must be"));
  EXPECT_THAT(with(R"("timestamp":0,"input_length":1,"output_length":1)"),
              HasSubstr("line 2, column 1: hash_ids must be"));
  EXPECT_THAT(with(R"("timestamp":-1,"input_length":1,"output_length":1,"hash_ids":[1])"),
              HasSubstr("line 2, column 14: timestamp must be"));
  EXPECT_THAT(with(R"("timestamp":0,"input_length":"x","output_length":1,"hash_ids":[1])"),
              HasSubstr("line 2, column 31: input_length must be"));
  EXPECT_THAT(with(R"("timestamp":0,"input_length":1,"output_length": 1e30,"hash_ids":[1])"),
              HasSubstr("line 2, column 50: output_length must be"));
  EXPECT_THAT(with(R"("timestamp":0,"input_length":1,"output_length":1,"hash_ids":[1,0.5])"),
              HasSubstr("line 2, column 65: hash_ids[1] must be"));
  EXPECT_THAT(with(R"("timestamp":0,)"), HasSubstr("line 2, column 16: JSON: not valid: "));
  EXPECT_THAT(with(R"("timestamp":0,)"), Not(HasSubstr("line 1")));
}

TEST(TraceReader, RefusesTimesThatNoDurationHolds) {
  const auto mooncake = [](const std::string& time) {
    return R"({"timestamp":)" + time + R"(,"input_length":1,"output_length":1,"hash_ids":[1]})";
  };
  EXPECT_THAT(message_of(mooncake("0") + "\n" + mooncake("9.3e12")),
              HasSubstr("line 2, column 14: timestamp must be a number from 0"));
  EXPECT_THAT(message_of(mooncake("1e13")), HasSubstr("is 10000000000000.0"));
  EXPECT_THAT(message_of("Timestamp,Request tokens,Response tokens\n5,1,1\n9.3e9,1,1\n"),
              HasSubstr("line 3, column Timestamp: must be a number from 0 to 4e+09, is '9.3e9'"));
  // The largest differences that are taken come out as they went in.
  const Workload far = parsed("Timestamp,Request tokens,Response tokens\n4e9,1,1\n0,1,1\n");
  EXPECT_EQ(far.requests[0].arrival, Duration{});
  EXPECT_EQ(far.requests[1].arrival, seconds(4'000'000'000));
  const Workload wide = parsed(
      "TIMESTAMP,ContextTokens,GeneratedTokens\n2099-12-31 23:59:59,1,1\n2000-01-01 "
      "00:00:00,1,1\n");
  EXPECT_EQ(wide.requests[0].arrival, Duration{});
  EXPECT_GT(wide.requests[1].arrival, seconds(3'000'000'000));
  std::ostringstream out;
  write_jsonl(far, out);
  EXPECT_EQ(parsed(out.str()).requests, far.requests);
  out.str("");
  write_jsonl(wide, out);
  EXPECT_EQ(parsed(out.str()).requests, wide.requests);
}

TEST(TraceReader, NamesThePlaceWhateverStandsInARow) {
  const std::string good = R"({"timestamp":0,"input_length":1,"output_length":1,"hash_ids":[1]})";
  const auto with = [&](const std::string& row) { return message_of(good + "\r\n\n" + row); };
  EXPECT_THAT(with("  [1]"), HasSubstr("line 3, column 3: must be an object"));
  EXPECT_THAT(with("null"), HasSubstr("line 3, column 1: "));
  EXPECT_THAT(with(std::string("{\"a\":\0}", 8)), HasSubstr("line 3, column 6: JSON"));
  EXPECT_THAT(with("{\"a\":\"\xff\"}"), HasSubstr("line 3, column 7: JSON"));
  EXPECT_THAT(with("{" + std::string(200, ' ')), HasSubstr("line 3, column 202: JSON"));
  EXPECT_THAT(with(R"({"a":)" + std::string(100, '[')), HasSubstr("line 3, column 69: JSON"));
  // Braces, quotes and names inside strings are no structure.
  EXPECT_THAT(with(R"({"x":"{\"timestamp\":1,","timestamp":"\\"})"),
              HasSubstr("line 3, column 38: timestamp must be"));
  // Of a name that is there twice the last counts.
  EXPECT_THAT(with(R"({"timestamp":1,"timestamp":"x"})"),
              HasSubstr("line 3, column 28: timestamp must be"));
  EXPECT_THAT(with(good.substr(0, 30)), HasSubstr("line 3, column 31: JSON"));
}

TEST(TraceReader, ReadsBailianWithItsConversations) {
  const Workload workload = parsed(
      R"({"chat_id":7,"parent_chat_id":-1,"timestamp":1.5,"input_length":33,"output_length":9,"type":"text","turn":1,"hash_ids":[1,2,3]})"
      "\n"
      R"({"chat_id":8,"parent_chat_id":7,"timestamp":61.114,"input_length":50,"output_length":9,"type":"text","turn":2,"hash_ids":[1,2,4,5]})"
      "\n"
      R"({"chat_id":9,"parent_chat_id":8,"timestamp":70,"input_length":16,"output_length":9,"type":"text","turn":3,"hash_ids":[1]})"
      "\n"
      R"({"chat_id":10,"parent_chat_id":3,"timestamp":71,"input_length":16,"output_length":9,"type":"text","turn":2,"hash_ids":[1]})");
  ASSERT_EQ(workload.requests.size(), 4u);
  EXPECT_EQ(workload.requests[1].arrival, milliseconds(61'114 - 1'500));
  EXPECT_EQ(workload.requests[1].user, "chat-7");
  EXPECT_EQ(workload.requests[2].user, "chat-7");
  EXPECT_EQ(workload.requests[3].user, "chat-10");  // its parent is before the trace
  EXPECT_EQ(statistics_of(workload).shared_prompt_tokens, 32 + 16 + 16);
}

constexpr std::string_view kShareGpt = R"([
  {"id": "a", "conversations": [{"from": "human", "value": "Hello there, you"},
                                {"from": "gpt", "value": "Hi!"}, {"from": "human", "value": "x"}]},
  {"id": "b", "conversations": [{"from": "human", "value": "alone"}]}])";

TEST(TraceReader, ReadsShareGptConversations) {
  const Workload workload = parsed(kShareGpt);
  ASSERT_EQ(workload.requests.size(), 1u);
  EXPECT_EQ(workload.requests[0].text, "Hello there, you");
  EXPECT_EQ(workload.requests[0].prompt_tokens(), 4);
  EXPECT_EQ(workload.requests[0].output_tokens, 1);
  EXPECT_TRUE(workload.estimated_lengths);
  EXPECT_EQ(workload.skipped_rows, 1);
  const Workload counted = parsed(kShareGpt, {.count_tokens = [](std::string_view text) {
                                    return static_cast<std::int64_t>(text.size());
                                  }});
  EXPECT_EQ(counted.requests[0].prompt_tokens(), 16);
  EXPECT_FALSE(counted.estimated_lengths);
  EXPECT_THAT(message_of(R"([{"conversations":[{"value":1},{"value":"x"}]}])"),
              HasSubstr("line 1, column 29: entry 0: conversations[0].value"));
  EXPECT_THAT(message_of("[{\"conversations\":[]},\n {\"conversations\":\n  3}]"),
              HasSubstr("line 3, column 3: entry 1: conversations must be"));
  EXPECT_THAT(message_of(R"([[]])"), HasSubstr("line 1, column 2: entry 0"));
  EXPECT_THAT(message_of(R"([{"conversations":[1,2]}])"), HasSubstr("conversations[0]"));
}

TEST(TraceReader, TheFirstRequestOfATailArrivesAtZero) {
  const auto arrivals = [](const std::string& text) {
    std::vector<Duration> times;
    for (const RequestSpec& request : parsed(text).requests)
      times.push_back(request.arrival);
    return times;
  };
  const auto row = [](const char* id, double time, int tokens) {
    return fmt::format(R"({{{}"timestamp":{},"input_length":{},"output_length":1,"hash_ids":[]}})",
                       id, time, tokens) +
           "\n";
  };
  const auto mooncake = std::bind_front(row, "");
  const auto bailian = std::bind_front(row, R"("chat_id":1,)");
  const std::vector<Duration> times{{}, milliseconds(500), milliseconds(2000)};
  // Also where a later row is the earliest, or the first one is a failed request.
  EXPECT_EQ(arrivals(mooncake(3500, 9) + mooncake(3000, 9) + mooncake(5000, 9)), times);
  EXPECT_EQ(arrivals(mooncake(2000, 0) + mooncake(3000, 9) + mooncake(3500, 9) + mooncake(5000, 9)),
            times);
  EXPECT_EQ(arrivals(bailian(70.5, 9) + bailian(70, 9) + bailian(72, 9)), times);
  EXPECT_EQ(
      arrivals("Timestamp,Request tokens,Response tokens\n50,0,1\n60,1,1\n60.5,1,1\n62,1,1\n"),
      times);
  EXPECT_EQ(
      arrivals("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00,0,1\n"
               "2023-11-16 18:00:05.5,1,1\n2023-11-16 18:00:05,1,1\n2023-11-16 18:00:07,1,1\n"),
      times);
}

TEST(TraceReader, ItsOwnFormatKeepsItsTimes) {
  Workload workload = parsed(kMooncake);
  for (RequestSpec& request : workload.requests)
    request.arrival += seconds(100);
  std::ostringstream out;
  write_jsonl(workload, out);
  EXPECT_EQ(parsed(out.str()).requests, workload.requests);
}

TEST(TraceReader, StopsAtTheRowsAskedFor) {
  EXPECT_EQ(parsed(kMooncake, {.max_requests = 2}).requests.size(), 2u);
  EXPECT_EQ(parsed(kAzure, {.max_requests = 1}).requests.size(), 1u);
}

TEST(TraceReader, SaysWhatItDoesNotKnow) {
  EXPECT_THAT(message_of(""), HasSubstr("empty"));
  EXPECT_THAT(message_of("\n \n"), HasSubstr("empty"));
  for (const char* unknown : {"a,b\n1,2\n", "{\"a\":1}\n", "{\n", "\"a\n"}) {
    EXPECT_THAT(message_of(unknown), StartsWith("line 1")) << unknown;
    EXPECT_THAT(message_of(unknown), HasSubstr("--trace-format")) << unknown;
  }
  EXPECT_THAT(message_of("\n\na,b\n"), StartsWith("line 3: not of a trace"));
  // A first line that is damaged is told as any other.
  EXPECT_THAT(message_of("\n{\"timestamp\":0,}\n"),
              StartsWith("line 2, column 16: JSON: not valid"));
  EXPECT_THAT(message_of("TIMESTAMP,\"ContextTokens\n"),
              StartsWith("line 1, column 2: a quote does not close"));
  EXPECT_THAT(message_of("TIMESTAMP,ContextTokens,GeneratedTokens\n"), HasSubstr("no requests"));
  EXPECT_THAT(message_of(kAzure, {.format = TraceFormat::kMooncake}),
              HasSubstr("line 1, column 1: JSON"));
  EXPECT_FALSE(read_trace("/nonexistent/trace.csv").ok());
  EXPECT_FALSE(read_trace("/").ok());
  for (const char* name :
       {"gimbal", "mooncake", "bailian", "azure", "burstgpt", "sharegpt-lengths", "sharegpt"}) {
    EXPECT_EQ(to_string(parse_trace_format(name).value()), name);
  }
  EXPECT_FALSE(parse_trace_format("csv").ok());
}

TEST(TraceReader, ReadsAPipeToItsEnd) {
  const TemporaryFolder folder;
  const std::string path = folder.path("pipe");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  std::string rows;
  for (int i = 0; i < 5000; ++i)  // more than a pipe holds
    rows += R"({"timestamp":0,"input_length":9,"output_length":1,"hash_ids":[]})"
            "\n";
  std::thread writer([&] { std::ofstream(path) << rows; });
  const auto workload = read_trace(path);
  writer.join();
  ASSERT_TRUE(workload.ok()) << workload.error().message;
  EXPECT_EQ(workload->requests.size(), 5000u);
}

TEST(TraceReader, ReadsBackWhatTheWriterWrote) {
  Rng rng(4);
  Workload workload = generate_multi_turn(
      {.num_prompts = 200, .users = {.users = 7, .topics = 3, .sources = 2}}, rng);
  assign_classes(workload, 0.5, rng);
  workload.requests[5].text = "quotes \" and \n lines é";
  std::ostringstream out;
  write_jsonl(workload, out);
  const Workload again = parsed(out.str());
  EXPECT_EQ(again.requests, workload.requests);
  EXPECT_TRUE(again.has_prefixes);
  EXPECT_EQ(again.name, "gimbal trace");
}

TEST(TraceReader, NamesWhatIsWrongInItsOwnFormat) {
  const auto with = [](const std::string& fields) { return message_of("{" + fields + "}"); };
  const std::string head = R"("timestamp":0,"input_length":3,"output_length":1,)";
  EXPECT_EQ(with(head + R"("prompt":[[1,3,-1]])"), "accepted");
  EXPECT_THAT(with(head + R"("prompt":[[1,2,-1]])"), HasSubstr("input_length must be"));
  for (const char* prompt : {"[]", "3", "[[1,3]]", "[[1,0,-1]]", "[[1,3,-2]]", "[[-1,3,0]]",
                             "[[1,3,0.5]]", "[[1,1e9,0]]", "[null]"}) {
    EXPECT_THAT(with(head + R"("prompt":)" + prompt), HasSubstr("prompt")) << prompt;
  }
  EXPECT_THAT(with(head + R"("prompt":[[1,3,-1],[1,0,0]])"),
              HasSubstr("line 1, column 70: prompt[1]"));
  EXPECT_THAT(with(head + R"("prompt":[[1,3,-1]],"class":"X")"),
              HasSubstr("line 1, column 79: a class is"));
  EXPECT_THAT(with(head + R"("prompt":[[1,3,-1]],"source":-1)"), HasSubstr("source"));
  EXPECT_THAT(with(head + R"("prompt":[[1,3,-1]],"user":1)"), HasSubstr("user"));
}

TEST(TraceReader, AnswersEveryDamagedTrace) {
  Rng rng(12);
  const std::string_view traces[] = {kAzure, kMooncake, kShareGpt};
  for (int round = 0; round < 3000; ++round) {
    std::string text(traces[rng.below(3)]);
    for (std::uint64_t damage = 1 + rng.below(4); damage > 0; --damage) {
      const std::size_t at = rng.below(text.size());
      if (rng.below(2) == 0) {
        text[at] = static_cast<char>(rng.below(256));
      } else {
        text.erase(at, 1 + rng.below(20));
      }
      if (text.empty()) break;
    }
    const auto workload = parse_trace(text);
    if (workload.ok()) {
      EXPECT_FALSE(workload->requests.empty());
    } else {
      EXPECT_FALSE(workload.error().message.empty());
    }
  }
}

}  // namespace
}  // namespace gimbal::workload
