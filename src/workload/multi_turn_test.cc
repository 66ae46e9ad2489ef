#include "workload/multi_turn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace gimbal::workload {
namespace {

Workload generate(const MultiTurnOptions& options, std::uint64_t seed = 1) {
  Rng rng(seed);
  return generate_multi_turn(options, rng);
}

bool starts_with(const std::vector<PromptPart>& prompt, const std::vector<PromptPart>& prefix) {
  return prefix.size() <= prompt.size() && std::equal(prefix.begin(), prefix.end(), prompt.begin());
}

TEST(MultiTurn, APromptRepeatsTheConversation) {
  const Workload workload = generate({.num_prompts = 500, .users = {.users = 5}});
  std::map<std::string, std::vector<std::vector<PromptPart>>> prompts;
  int continued = 0;
  for (const RequestSpec& request : workload.requests) {
    auto& earlier = prompts[request.user];
    if (!earlier.empty() && starts_with(request.prompt, earlier.back())) {
      ++continued;
      // The last prompt, its made-up answer and a new message.
      EXPECT_EQ(request.prompt.size(), earlier.back().size() + 2);
    } else {
      EXPECT_EQ(request.prompt.size(), 2u);  // system prompt and a message
    }
    EXPECT_LE(request.prompt_tokens(), 2048);
    earlier.push_back(request.prompt);
  }
  EXPECT_EQ(prompts.size(), 5u);
  // Four turns a conversation and a third of users return: about five of six continue.
  EXPECT_NEAR(continued / 500.0, 0.8, 0.1);
}

TEST(MultiTurn, SystemPromptsAreSharedAcrossUsers) {
  const Workload workload =
      generate({.num_prompts = 400, .users = {.users = 12}, .system_prompts = 3});
  std::map<std::uint64_t, std::set<std::string>> users_of;
  for (const RequestSpec& request : workload.requests) {
    EXPECT_EQ(request.prompt.front().tokens, 256);
    users_of[request.prompt.front().identity].insert(request.user);
  }
  EXPECT_EQ(users_of.size(), 3u);
  for (const auto& [identity, users] : users_of)
    EXPECT_EQ(users.size(), 4u);
}

TEST(MultiTurn, TurnsAndLengthsHaveTheirMeans) {
  const Workload workload = generate({.num_prompts = 20'000,
                                      .users = {.users = 100},
                                      .return_probability = 0.0,
                                      .max_prompt_tokens = 1'000'000});
  double messages = 0.0;
  double answers = 0.0;
  double conversations = 0.0;
  for (const RequestSpec& request : workload.requests) {
    messages += static_cast<double>(request.prompt.back().tokens);
    answers += static_cast<double>(request.output_tokens);
    conversations += request.prompt.size() == 2;
  }
  EXPECT_NEAR(messages / 20'000, 64.0, 1.5);
  EXPECT_NEAR(answers / 20'000, 150.0, 4.0);
  EXPECT_NEAR(20'000 / conversations, 4.0, 0.15);
}

TEST(MultiTurn, UsersThinkAsLongAsTheyAreSaidTo) {
  const Workload workload = generate({.num_prompts = 20'000,
                                      .users = {.users = 50},
                                      .mean_think_seconds = 5.0,
                                      .mean_pause_seconds = 5.0});
  std::map<std::string, Duration> last;
  double sum = 0.0;
  double squares = 0.0;
  int gaps = 0;
  Duration previous{};
  for (const RequestSpec& request : workload.requests) {
    EXPECT_GE(request.arrival, previous);
    previous = request.arrival;
    if (last.contains(request.user)) {
      const double gap = to_ms(request.arrival - last[request.user]) * 1e-3;
      sum += gap;
      squares += gap * gap;
      ++gaps;
    }
    last[request.user] = request.arrival;
  }
  EXPECT_NEAR(sum / gaps, 5.0, 0.15);
  EXPECT_NEAR(squares / gaps, 50.0, 4.0);
}

TEST(MultiTurn, UsersHaveTopicsButSystemPromptsHaveNone) {
  const Workload workload =
      generate({.num_prompts = 200, .users = {.users = 9, .topics = 4, .sources = 2}});
  for (const RequestSpec& request : workload.requests) {
    const int user = std::stoi(request.user.substr(5));
    EXPECT_EQ(request.prompt.front().topic, kAnyTopic);
    EXPECT_EQ(request.prompt.back().topic, user % 4);
    EXPECT_EQ(request.source, user % 2);
  }
}

TEST(MultiTurn, IsReproducible) {
  EXPECT_EQ(generate({.num_prompts = 300}).requests, generate({.num_prompts = 300}).requests);
  EXPECT_NE(generate({.num_prompts = 300}).requests, generate({.num_prompts = 300}, 2).requests);
}

TEST(MultiTurn, NamesTheOptionAtFault) {
  EXPECT_TRUE(validate(MultiTurnOptions{}).ok());
  const auto field = [](MultiTurnOptions options) { return validate(options).error().field; };
  EXPECT_EQ(field({.num_prompts = 0}), "num_prompts");
  EXPECT_EQ(field({.users = {.users = 0}}), "users");
  EXPECT_EQ(field({.system_prompts = -1}), "system_prompts");
  EXPECT_EQ(field({.system_tokens = 2048}), "system_tokens");
  EXPECT_EQ(field({.mean_turns = 0.5}), "mean_turns");
  EXPECT_EQ(field({.mean_message_tokens = std::nan("")}), "mean_message_tokens");
  EXPECT_EQ(field({.mean_think_seconds = -1.0}), "mean_think_seconds");
  EXPECT_EQ(field({.return_probability = 1.5}), "return_probability");
  EXPECT_EQ(field({.max_prompt_tokens = 0}), "max_prompt_tokens");
}

}  // namespace
}  // namespace gimbal::workload
