#include "cluster/dispatch_queue.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "sched/request_group.h"

namespace gimbal::cluster {
namespace {

constexpr std::size_t kUserTokens = 256;  // of a prompt, that stand for an unknown user

std::uint64_t user_of(const sched::Request& request) {
  if (request.user_key != 0) return request.user_key;
  const std::span<const TokenId> prompt(request.prompt);
  return hash_tokens(prompt.first(std::min(prompt.size(), kUserTokens)), request.cache_salt);
}

}  // namespace

double DispatchGroup::uncached_on(std::size_t engine) const {
  return std::max(1.0, prefill_tokens - hits[engine]);
}

DispatchGroup make_group(std::vector<sched::Request> requests, const GroupTraits& traits) {
  GIMBAL_CHECK(!requests.empty());
  DispatchGroup group;
  group.requests = std::move(requests);
  group.user = user_of(group.requests.front());
  const sched::Request* ahead = nullptr;
  for (const sched::Request& request : group.requests) {
    auto tokens = static_cast<double>(request.prompt.size());
    if (traits.prefix_caching && ahead != nullptr && ahead->cache_salt == request.cache_salt &&
        !request.sampling.prompt_logprobs) {
      tokens -= sched::shared_prefix_tokens(ahead->prompt, request.prompt, traits.page_tokens);
    }
    group.own_tokens.push_back(tokens);
    group.prefill_tokens += tokens;
    group.pages += std::ceil(tokens / traits.page_tokens);
    ahead = &request;
  }
  return group;
}

void DispatchQueue::push(DispatchGroup group, const policy::OrderKey& key) {
  const Place place{group.best_effort(), key, group.number};
  prefill_tokens_ += group.prefill_tokens;
  for (const sched::Request& request : group.requests) {
    const bool added = places_.emplace(request.id, place).second;
    GIMBAL_CHECK(added, "a request came twice");
  }
  const bool added = queue_.emplace(place, std::move(group)).second;
  GIMBAL_CHECK(added, "two groups have one number");
}

DispatchGroup DispatchQueue::take(std::map<Place, DispatchGroup>::iterator at) {
  DispatchGroup group = std::move(at->second);
  queue_.erase(at);
  prefill_tokens_ -= group.prefill_tokens;
  for (const sched::Request& request : group.requests)
    places_.erase(request.id);
  return group;
}

std::map<DispatchQueue::Place, DispatchGroup>::iterator DispatchQueue::first(bool best_effort) {
  constexpr policy::OrderKey kBeforeAll{std::numeric_limits<int>::min(),
                                        -std::numeric_limits<double>::infinity()};
  const auto found = queue_.lower_bound(Place{best_effort, kBeforeAll, 0});
  return found != queue_.end() && std::get<bool>(found->first) == best_effort ? found
                                                                              : queue_.end();
}

DispatchGroup* DispatchQueue::front(bool best_effort) {
  const auto found = first(best_effort);
  return found == queue_.end() ? nullptr : &found->second;
}

DispatchGroup DispatchQueue::pop(bool best_effort) {
  const auto found = first(best_effort);
  GIMBAL_CHECK(found != queue_.end());
  return take(found);
}

std::optional<DispatchGroup> DispatchQueue::take_group_of(RequestId request) {
  const auto found = places_.find(request);
  if (found == places_.end()) return std::nullopt;
  return take(queue_.find(found->second));
}

std::vector<RequestId> DispatchQueue::requests() const {
  std::vector<RequestId> ids;
  for (const auto& [place, group] : queue_) {
    for (const sched::Request& request : group.requests)
      ids.push_back(request.id);
  }
  return ids;
}

}  // namespace gimbal::cluster
