#include "workload/transforms.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/check.h"

namespace gimbal::workload {
namespace {

constexpr int kMostUsers = 10'000'000;

std::int64_t scaled(std::int64_t tokens, double factor) {
  return std::llround(static_cast<double>(tokens) * factor);
}

// Keeps the first `tokens` of a prompt.
void cut_prompt(std::vector<PromptPart>& prompt, std::int64_t tokens) {
  std::size_t kept = 0;
  while (kept < prompt.size() && tokens > 0) {
    prompt[kept].tokens = std::min(prompt[kept].tokens, tokens);
    tokens -= prompt[kept].tokens;
    ++kept;
  }
  prompt.resize(kept);
}

// Shortens a text as its prompt was shortened, to whole UTF-8 characters.
void cut_text(RequestSpec& request, std::int64_t tokens_before) {
  const std::int64_t tokens = request.prompt_tokens();
  if (request.text.empty() || tokens >= tokens_before) return;
  auto bytes =
      static_cast<std::size_t>(static_cast<double>(request.text.size()) *
                               static_cast<double>(tokens) / static_cast<double>(tokens_before));
  const auto continues = [&](std::size_t at) {
    return (static_cast<unsigned char>(request.text[at]) & 0xC0) == 0x80;
  };
  while (bytes > 0 && continues(bytes))
    --bytes;
  if (bytes > 0) request.text.resize(bytes);
}

}  // namespace

void scale_lengths(Workload& workload, double factor) {
  GIMBAL_CHECK(factor > 0.0 && factor <= 1000.0);
  for (RequestSpec& request : workload.requests) {
    const std::int64_t before = request.prompt_tokens();
    std::vector<PromptPart> prompt;
    std::int64_t end = 0;
    for (PromptPart part : request.prompt) {
      const std::int64_t start = scaled(end, factor);
      end += part.tokens;
      part.tokens = scaled(end, factor) - start;
      if (part.tokens > 0) prompt.push_back(part);
    }
    if (prompt.empty()) {
      prompt.push_back(request.prompt.front());
      prompt.front().tokens = 1;
    }
    request.prompt = std::move(prompt);
    cut_text(request, before);
    request.output_tokens = std::max<std::int64_t>(1, scaled(request.output_tokens, factor));
  }
}

void cap_lengths(Workload& workload, std::optional<std::int64_t> prompt_cap,
                 std::optional<std::int64_t> output_cap) {
  GIMBAL_CHECK(prompt_cap.value_or(1) >= 1 && output_cap.value_or(1) >= 1);
  for (RequestSpec& request : workload.requests) {
    if (prompt_cap) {
      const std::int64_t before = request.prompt_tokens();
      cut_prompt(request.prompt, *prompt_cap);
      cut_text(request, before);
    }
    if (output_cap) request.output_tokens = std::min(request.output_tokens, *output_cap);
  }
}

void keep_first(Workload& workload, std::size_t count) {
  if (workload.requests.size() > count) workload.requests.resize(count);
}

void begin_at_zero(Workload& workload) {
  if (workload.requests.empty()) return;
  const Duration start = workload.requests.front().arrival;
  for (RequestSpec& request : workload.requests)
    request.arrival -= start;
}

void drop_first(Workload& workload, std::size_t count) {
  GIMBAL_CHECK(count < workload.requests.size());
  workload.requests.erase(workload.requests.begin(),
                          workload.requests.begin() + static_cast<std::ptrdiff_t>(count));
  begin_at_zero(workload);
}

Workload sample_requests(const Workload& workload, std::size_t count, Rng& rng) {
  GIMBAL_CHECK(!workload.requests.empty());
  Workload sampled = workload;
  sampled.requests.clear();
  std::vector<std::size_t> order(workload.requests.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  while (sampled.requests.size() < count) {
    const bool repeated = !sampled.requests.empty();
    for (std::size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[rng.below(i)]);
    }
    for (const std::size_t index : order) {
      if (sampled.requests.size() == count) break;
      RequestSpec request = workload.requests[index];
      if (repeated && !workload.has_prefixes) {
        for (PromptPart& part : request.prompt)
          part.identity = rng();
      }
      sampled.requests.push_back(std::move(request));
    }
  }
  return sampled;
}

void assign_classes(Workload& workload, double latency_sensitive_share, Rng& rng) {
  GIMBAL_CHECK(latency_sensitive_share >= 0.0 && latency_sensitive_share <= 1.0);
  for (RequestSpec& request : workload.requests) {
    request.traffic_class = rng.uniform() < latency_sensitive_share
                                ? TrafficClass::kLatencySensitive
                                : TrafficClass::kBestEffort;
  }
}

Result<void> validate(const UserOptions& options) {
  const auto check = [](int value, const char* field) -> Result<void> {
    if (value >= 0 && value <= kMostUsers) return {};
    return invalid_argument(fmt::format("{} must be from 0 to {}, is {}", field, kMostUsers, value),
                            field);
  };
  GIMBAL_RETURN_IF_ERROR(check(options.users, "users"));
  GIMBAL_RETURN_IF_ERROR(check(options.topics, "topics"));
  GIMBAL_RETURN_IF_ERROR(check(options.sources, "pin_users"));
  if (options.users == 0 && (options.topics > 0 || options.sources > 0)) {
    return invalid_argument("topics and pinned users need users", "users");
  }
  return {};
}

Result<void> assign_users(Workload& workload, const UserOptions& options, Rng& rng) {
  GIMBAL_RETURN_IF_ERROR(validate(options));
  if (options.users == 0) return {};
  if (options.topics > 0 && workload.has_prefixes) {
    return invalid_argument("topics need prompts without shared prefixes", "topics");
  }
  for (RequestSpec& request : workload.requests) {
    const int user = static_cast<int>(rng.below(static_cast<std::uint64_t>(options.users)));
    request.user = fmt::format("user-{}", user);
    if (options.sources > 0) request.source = user % options.sources;
    if (options.topics == 0) continue;
    for (PromptPart& part : request.prompt)
      part.topic = user % options.topics;
  }
  return {};
}

}  // namespace gimbal::workload
