#include "workload/statistics.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_map>

#include "base/hash.h"

namespace gimbal::workload {
namespace {

// All prompts seen so far, as a tree of parts.
class PrefixTree {
 public:
  // Tokens at the front of `prompt` that were seen before; then remembers it.
  std::int64_t add(const std::vector<PromptPart>& prompt) {
    std::int64_t shared = 0;
    std::uint64_t place = 0;  // hash of the parts before
    bool matching = true;
    for (const PromptPart& part : prompt) {
      const std::uint64_t name =
          hash_combine(hash_combine(place, part.identity), static_cast<std::uint64_t>(part.topic));
      std::int64_t& seen = longest_[name];
      if (matching) shared += std::min(seen, part.tokens);
      // What follows a part follows it at its full length only.
      place = hash_combine(name, static_cast<std::uint64_t>(part.tokens));
      matching = matching && seen >= part.tokens;
      seen = std::max(seen, part.tokens);
    }
    return shared;
  }

 private:
  std::unordered_map<std::uint64_t, std::int64_t> longest_;
};

double variation_of_gaps(const Workload& workload) {
  if (workload.requests.size() < 2) return 0.0;
  std::vector<double> gaps;
  for (std::size_t i = 1; i < workload.requests.size(); ++i) {
    gaps.push_back(to_ms(workload.requests[i].arrival - workload.requests[i - 1].arrival));
  }
  double mean = 0.0;
  for (const double gap : gaps)
    mean += gap / static_cast<double>(gaps.size());
  double variance = 0.0;
  for (const double gap : gaps) {
    variance += (gap - mean) * (gap - mean) / static_cast<double>(gaps.size());
  }
  return mean > 0.0 ? std::sqrt(variance) / mean : 0.0;
}

}  // namespace

WorkloadStatistics statistics_of(const Workload& workload) {
  WorkloadStatistics result;
  PrefixTree prompts;
  std::set<std::string> users;
  for (const RequestSpec& request : workload.requests) {
    const std::int64_t tokens = request.prompt_tokens();
    result.prompt_tokens += tokens;
    result.output_tokens += request.output_tokens;
    result.shared_prompt_tokens += prompts.add(request.prompt);
    result.prompt_lengths.push_back(static_cast<double>(tokens));
    result.output_lengths.push_back(static_cast<double>(request.output_tokens));
    if (!request.user.empty()) users.insert(request.user);
    if (request.traffic_class != TrafficClass::kNone) {
      ++result.classes[std::string(to_string(request.traffic_class))];
    }
    for (const PromptPart& part : request.prompt) {
      if (part.topic != kAnyTopic) result.topics[part.topic] += part.tokens;
    }
  }
  result.requests = workload.requests.size();
  result.users = users.size();
  if (!workload.requests.empty()) {
    result.seconds = to_ms(workload.requests.back().arrival) * 1e-3;
  }
  if (result.seconds > 0.0) result.rate = static_cast<double>(result.requests) / result.seconds;
  result.gap_variation = variation_of_gaps(workload);
  return result;
}

}  // namespace gimbal::workload
