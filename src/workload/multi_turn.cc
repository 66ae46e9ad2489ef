#include "workload/multi_turn.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "workload/random_variates.h"

namespace gimbal::workload {
namespace {

struct User {
  std::vector<PromptPart> history = {};  // of the conversation, the system prompt included
  std::int64_t turns_left = 0;
};

class Conversations {
 public:
  Conversations(const MultiTurnOptions& options, Rng& rng)
      : options_(options), rng_(rng), users_(static_cast<std::size_t>(options.users.users)) {
    for (std::int64_t i = 0; i < options.system_prompts; ++i)
      system_.push_back(rng_());
  }

  Workload generate();

 private:
  int topic_of(int user) const {
    return options_.users.topics > 0 ? user % options_.users.topics : kAnyTopic;
  }
  std::int64_t draw(double mean) {
    const double drawn = log_normal(rng_, mean, options_.length_sigma);
    return std::clamp<std::int64_t>(std::llround(drawn), 1, options_.max_prompt_tokens);
  }
  void begin_conversation(int user);
  // The user's next request, at `now`; and how long until the one after it.
  std::pair<RequestSpec, double> next_turn(int user, double now);

  const MultiTurnOptions& options_;
  Rng& rng_;
  std::vector<User> users_;
  std::vector<std::uint64_t> system_;
};

void Conversations::begin_conversation(int user) {
  User& state = users_[static_cast<std::size_t>(user)];
  state.turns_left = geometric(rng_, options_.mean_turns);
  const bool returns = rng_.uniform() < options_.return_probability;
  if (returns && !state.history.empty()) return;
  state.history.clear();
  if (system_.empty() || options_.system_tokens == 0) return;
  state.history.push_back({.identity = system_[static_cast<std::size_t>(user) % system_.size()],
                           .tokens = options_.system_tokens});
}

std::pair<RequestSpec, double> Conversations::next_turn(int user, double now) {
  User& state = users_[static_cast<std::size_t>(user)];
  if (state.turns_left == 0) begin_conversation(user);
  const std::int64_t message = draw(options_.mean_message_tokens);
  RequestSpec request;
  request.prompt = state.history;
  if (request.prompt_tokens() + message > options_.max_prompt_tokens) {
    state.history.clear();
    begin_conversation(user);
    request.prompt = state.history;
  }
  const std::int64_t room = options_.max_prompt_tokens - request.prompt_tokens();
  request.prompt.push_back(
      {.identity = rng_(), .tokens = std::min(message, room), .topic = topic_of(user)});
  request.output_tokens = draw(options_.mean_answer_tokens);
  request.arrival = Duration{std::llround(now * 1e9)};
  request.user = fmt::format("user-{}", user);
  if (options_.users.sources > 0) request.source = user % options_.users.sources;
  state.history = request.prompt;
  state.history.push_back(
      {.identity = rng_(), .tokens = request.output_tokens, .topic = topic_of(user)});
  --state.turns_left;
  const double wait = exponential(
      rng_, state.turns_left > 0 ? options_.mean_think_seconds : options_.mean_pause_seconds);
  return {std::move(request), wait};
}

Workload Conversations::generate() {
  Workload workload{.name = fmt::format("{} multi-turn users", options_.users.users),
                    .has_arrivals = true,
                    .has_prefixes = true};
  using Turn = std::pair<double, int>;  // when, who; ties go to the lower user
  std::priority_queue<Turn, std::vector<Turn>, std::greater<>> turns;
  for (int user = 0; user < options_.users.users; ++user) {
    turns.emplace(exponential(rng_, options_.mean_pause_seconds), user);
  }
  while (static_cast<std::int64_t>(workload.requests.size()) < options_.num_prompts) {
    const auto [now, user] = turns.top();
    turns.pop();
    auto [request, wait] = next_turn(user, now);
    workload.requests.push_back(std::move(request));
    turns.emplace(now + wait, user);
  }
  return workload;
}

Error out_of_range(const char* field, double value, const char* range) {
  return invalid_argument(fmt::format("{} must be {}, is {}", field, range, value), field);
}

}  // namespace

Result<void> validate(const MultiTurnOptions& options) {
  GIMBAL_RETURN_IF_ERROR(validate(options.users));
  if (options.users.users < 1) return out_of_range("users", options.users.users, "at least 1");
  if (options.num_prompts < 1 || options.num_prompts > 100'000'000) {
    return out_of_range("num_prompts", static_cast<double>(options.num_prompts), "from 1 to 1e8");
  }
  if (options.system_prompts < 0 || options.system_prompts > 1'000'000) {
    return out_of_range("system_prompts", options.system_prompts, "from 0 to 1e6");
  }
  if (options.max_prompt_tokens < 1 || options.max_prompt_tokens > kMostTokens) {
    return out_of_range("max_prompt_tokens", static_cast<double>(options.max_prompt_tokens),
                        "from 1 to 1e7");
  }
  if (options.system_tokens < 0 || options.system_tokens >= options.max_prompt_tokens) {
    return out_of_range("system_tokens", static_cast<double>(options.system_tokens),
                        "from 0 to below the longest prompt");
  }
  for (const auto& [value, field] : {std::pair{options.mean_turns, "mean_turns"},
                                     std::pair{options.mean_message_tokens, "mean_message_tokens"},
                                     std::pair{options.mean_answer_tokens, "mean_answer_tokens"}}) {
    if (!(value >= 1.0 && value <= 1e6)) return out_of_range(field, value, "from 1 to 1e6");
  }
  for (const auto& [value, field] : {std::pair{options.mean_think_seconds, "mean_think_seconds"},
                                     std::pair{options.mean_pause_seconds, "mean_pause_seconds"}}) {
    if (!(value >= 0.0 && value <= 1e6)) return out_of_range(field, value, "from 0 to 1e6");
  }
  if (!(options.return_probability >= 0.0 && options.return_probability <= 1.0)) {
    return out_of_range("return_probability", options.return_probability, "from 0 to 1");
  }
  if (!(options.length_sigma >= 0.0 && options.length_sigma <= 3.0)) {
    return out_of_range("length_sigma", options.length_sigma, "from 0 to 3");
  }
  return {};
}

Workload generate_multi_turn(const MultiTurnOptions& options, Rng& rng) {
  GIMBAL_CHECK(validate(options).ok());
  return Conversations(options, rng).generate();
}

}  // namespace gimbal::workload
