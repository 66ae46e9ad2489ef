#include "workload/transforms.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace gimbal::workload {
namespace {

RequestSpec of(std::vector<PromptPart> parts, std::int64_t output = 10) {
  RequestSpec request;
  request.prompt = std::move(parts);
  request.output_tokens = output;
  return request;
}

// `count` requests; number i has a prompt of i + 1 tokens of its own.
Workload numbered(std::size_t count) {
  Workload workload;
  for (std::size_t i = 0; i < count; ++i) {
    workload.requests.push_back(of({{i, static_cast<std::int64_t>(i) + 1}}));
  }
  return workload;
}

TEST(Transforms, ScalingKeepsSharedPrefixesShared) {
  Rng rng(6);
  Workload workload;
  std::vector<PromptPart> shared;
  for (std::uint64_t i = 0; i < 6; ++i)
    shared.push_back({i, rng.between(1, 40)});
  for (std::size_t length = 1; length <= shared.size(); ++length) {
    auto parts = std::vector(shared.begin(), shared.begin() + static_cast<std::ptrdiff_t>(length));
    parts.push_back({100 + length, rng.between(1, 40)});
    workload.requests.push_back(of(parts));
  }
  for (const double factor : {0.125, 0.33, 1.0, 2.5}) {
    Workload small = workload;
    scale_lengths(small, factor);
    for (std::size_t r = 0; r < small.requests.size(); ++r) {
      const double wanted = static_cast<double>(workload.requests[r].prompt_tokens()) * factor;
      EXPECT_NEAR(static_cast<double>(small.requests[r].prompt_tokens()), std::max(wanted, 1.0),
                  0.5);
      // Shared parts have the same scaled length in every prompt.
      std::map<std::uint64_t, std::int64_t> lengths;
      for (const PromptPart& part : small.requests.back().prompt) {
        lengths[part.identity] = part.tokens;
      }
      for (const PromptPart& part : small.requests[r].prompt) {
        EXPECT_GT(part.tokens, 0);
        if (part.identity < r + 1) {
          EXPECT_EQ(part.tokens, lengths[part.identity]);
        }
      }
    }
  }
}

TEST(Transforms, ScalingLeavesAtLeastOneToken) {
  Workload workload;
  workload.requests.push_back(of({{1, 2}, {2, 1}}, 3));
  scale_lengths(workload, 0.01);
  EXPECT_EQ(workload.requests[0].prompt_tokens(), 1);
  EXPECT_EQ(workload.requests[0].output_tokens, 1);
}

TEST(Transforms, CapsCutTheEnd) {
  Workload workload;
  workload.requests.push_back(of({{1, 10}, {2, 10}, {3, 10}}, 50));
  workload.requests.push_back(of({{1, 4}}, 5));
  cap_lengths(workload, 15, 8);
  EXPECT_EQ(workload.requests[0].prompt, (std::vector<PromptPart>{{1, 10}, {2, 5}}));
  EXPECT_EQ(workload.requests[0].output_tokens, 8);
  EXPECT_EQ(workload.requests[1].prompt_tokens(), 4);
  EXPECT_EQ(workload.requests[1].output_tokens, 5);
  cap_lengths(workload, {}, {});
  EXPECT_EQ(workload.requests[0].prompt_tokens(), 15);
}

TEST(Transforms, TextIsCutWithItsPrompt) {
  Workload workload;
  workload.requests.push_back(of({{1, 4}}));
  workload.requests[0].text = "ab\u00e9\u00e9\u00e9z";  // 9 bytes
  Workload scaled = workload;
  cap_lengths(workload, 2, {});
  EXPECT_EQ(workload.requests[0].text, "ab\u00e9");  // half of it, but whole characters
  scale_lengths(scaled, 2.0);
  EXPECT_EQ(scaled.requests[0].text.size(), 9u);
}

TEST(Transforms, WhatIsLeftBeginsAtZero) {
  using std::chrono::seconds;
  Workload workload = numbered(4);
  for (int i = 0; i < 4; ++i)
    workload.requests[static_cast<std::size_t>(i)].arrival = seconds(100 + i * i);
  Workload rest = workload;
  drop_first(rest, 2);
  ASSERT_EQ(rest.requests.size(), 2u);
  EXPECT_EQ(rest.requests[0].prompt_tokens(), 3);
  EXPECT_EQ(rest.requests[0].arrival, Duration{});
  EXPECT_EQ(rest.requests[1].arrival, seconds(5));
  drop_first(workload, 0);
  EXPECT_EQ(workload.requests[0].arrival, Duration{});
  EXPECT_EQ(workload.requests[3].arrival, seconds(9));
}

TEST(Transforms, SamplingTakesEachOnceBeforeItRepeats) {
  Rng rng(1);
  const Workload sampled = sample_requests(numbered(10), 25, rng);
  ASSERT_EQ(sampled.requests.size(), 25u);
  std::set<std::uint64_t> identities;
  std::map<std::int64_t, int> times;
  for (const RequestSpec& request : sampled.requests) {
    identities.insert(request.prompt.front().identity);
    ++times[request.prompt_tokens()];
  }
  EXPECT_EQ(identities.size(), 25u);  // copies are other prompts
  for (const auto& [length, count] : times)
    EXPECT_TRUE(count == 2 || count == 3) << length;
}

TEST(Transforms, SamplingIsUniformInOrder) {
  std::vector<int> first(10);
  for (std::uint64_t seed = 0; seed < 5000; ++seed) {
    Rng rng(seed);
    const auto index = sample_requests(numbered(10), 1, rng).requests[0].prompt_tokens() - 1;
    ++first[static_cast<std::size_t>(index)];
  }
  for (const int count : first)
    EXPECT_NEAR(count, 500, 90);
}

TEST(Transforms, ClassesHaveTheirShare) {
  for (const double share : {0.0, 0.2, 0.8, 1.0}) {
    Workload workload = numbered(10'000);
    Rng rng(2);
    assign_classes(workload, share, rng);
    const auto sensitive = std::count_if(
        workload.requests.begin(), workload.requests.end(), [](const RequestSpec& request) {
          return request.traffic_class == TrafficClass::kLatencySensitive;
        });
    EXPECT_NEAR(static_cast<double>(sensitive) / 10'000, share, share * (1 - share) * 0.1);
  }
}

TEST(Transforms, UsersKeepTheirTopicAndSource) {
  Workload workload = numbered(4000);
  Rng rng(3);
  ASSERT_TRUE(assign_users(workload, {.users = 10, .topics = 4, .sources = 3}, rng).ok());
  std::map<std::string, int> requests_of;
  for (const RequestSpec& request : workload.requests) {
    const int user = std::stoi(request.user.substr(5));
    EXPECT_EQ(request.prompt.front().topic, user % 4);
    EXPECT_EQ(request.source, user % 3);
    ++requests_of[request.user];
  }
  ASSERT_EQ(requests_of.size(), 10u);
  for (const auto& [user, count] : requests_of)
    EXPECT_NEAR(count, 400, 90) << user;
}

TEST(Transforms, RefuseUsersThatMakeNoSense) {
  EXPECT_EQ(validate({.users = -1}).error().field, "users");
  EXPECT_EQ(validate({.topics = 2}).error().field, "users");
  EXPECT_EQ(validate({.sources = 2}).error().field, "users");
  Workload shared = numbered(2);
  shared.has_prefixes = true;
  Rng rng(1);
  EXPECT_EQ(assign_users(shared, {.users = 2, .topics = 2}, rng).error().field, "topics");
  EXPECT_TRUE(assign_users(shared, {.users = 2}, rng).ok());
}

}  // namespace
}  // namespace gimbal::workload
