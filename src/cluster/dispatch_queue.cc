#include "cluster/dispatch_queue.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "sched/request_group.h"

namespace gimbal::cluster {

using sched::OrderReason;
using sched::RequestClass;

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

DispatchQueue::DispatchQueue(const DispatcherOptions& options, const policy::RequestOrder& order)
    : options_(options), order_(order), queues_(order) {
  if (!options.late || options.order != "sjf-aging" || !options.order_options.aging_auto) return;
  tuners_.assign(2, sched::AgingTuner(options.order_options.aging));
}

sched::AgingTuner* DispatchQueue::tuner(RequestClass request_class) {
  return tuners_.empty() ? nullptr : &tuners_[static_cast<std::size_t>(request_class)];
}

policy::OrderedRequest DispatchQueue::ordered(const Waiting& waiting) {
  const sched::AgingTuner* tuner = this->tuner(waiting.entry.request_class);
  return {.arrival = waiting.group.arrival,
          .job_ms = waiting.cost.ms(waiting.job_tokens),
          .priority = waiting.group.requests.front().priority,
          .aging = tuner != nullptr ? std::optional(tuner->aging()) : std::nullopt};
}

void DispatchQueue::advance(TimePoint now) {
  now_ = now;
  if (tuners_.empty()) return;
  for (const RequestClass request_class :
       {RequestClass::kLatencySensitive, RequestClass::kBestEffort}) {
    if (!tuner(request_class)->tune(now)) continue;
    queues_.reorder(request_class, [&](RequestId id) {
      Waiting& waiting = groups_.at(id);
      waiting.entry.key = order_.key(ordered(waiting));
      return waiting.entry.key;
    });
  }
}

void DispatchQueue::push(DispatchGroup group, int job_tokens, const policy::PrefillCost& cost) {
  if (sched::AgingTuner* tuner = this->tuner(group.requests.front().request_class))
    tuner->arrived(RequestId{group.number}, group.arrival, job_tokens);
  push(std::move(group), job_tokens, cost, OrderReason::kArrived);
}

void DispatchQueue::push_back(DispatchGroup group, int job_tokens,
                              const policy::PrefillCost& cost) {
  push(std::move(group), job_tokens, cost, OrderReason::kGivenBack);
}

void DispatchQueue::push(DispatchGroup group, int job_tokens, const policy::PrefillCost& cost,
                         OrderReason reason) {
  Waiting waiting{.group = std::move(group), .entry = {}, .job_tokens = job_tokens, .cost = cost};
  const DispatchGroup& queued = waiting.group;
  waiting.entry = {.request_class = queued.requests.front().request_class,
                   .arrival = queued.arrival,
                   .ordinal = queued.number,
                   .prefill = job_tokens};
  waiting.entry.key = order_.key(ordered(waiting));
  tell(waiting, reason);
  insert(std::move(waiting));
}

void DispatchQueue::count(const DispatchGroup& group, int sign) {
  Sum& sum = sums_[group.best_effort() ? 1 : 0];
  sum.requests += sign * static_cast<std::int64_t>(group.requests.size());
  sum.prefill_tokens += sign * group.prefill_tokens;
}

void DispatchQueue::insert(Waiting waiting) {
  const RequestId first = waiting.group.requests.front().id;
  waiting.entry.request = first;
  for (const sched::Request& request : waiting.group.requests)
    GIMBAL_CHECK(places_.emplace(request.id, first).second, "a request came twice");
  count(waiting.group, 1);
  queues_.push(waiting.entry);
  groups_.emplace(first, std::move(waiting));
}

DispatchQueue::Waiting DispatchQueue::take(RequestId request) {
  auto node = groups_.extract(places_.at(request));
  Waiting& waiting = node.mapped();
  queues_.erase(waiting.entry);
  count(waiting.group, -1);
  for (const sched::Request& each : waiting.group.requests)
    places_.erase(each.id);
  return std::move(waiting);
}

std::optional<RequestId> DispatchQueue::first(bool best_effort) const {
  std::optional<RequestId> found;
  const auto request_class =
      best_effort ? RequestClass::kBestEffort : RequestClass::kLatencySensitive;
  queues_.for_each(request_class, now_, [&](RequestId request) {
    found = request;
    return false;
  });
  return found;
}

DispatchGroup* DispatchQueue::front(bool best_effort) {
  const auto found = first(best_effort);
  return found ? &groups_.at(*found).group : nullptr;
}

DispatchGroup DispatchQueue::bind_front(bool best_effort) {
  const auto found = first(best_effort);
  GIMBAL_CHECK(found.has_value());
  Waiting bound = take(*found);
  const Duration waited = now_ - bound.group.arrival;
  const auto promote_after = order_.promote_after(queues_.median_wait());
  if (promote_after && waited > *promote_after) {
    tell(bound, OrderReason::kPromoted);
  } else if (bound.entry.key != bound.told_key) {
    tell(bound, OrderReason::kRetuned);
  }
  queues_.note_wait(waited);
  if (sched::AgingTuner* tuner = this->tuner(bound.entry.request_class)) {
    tuner->admitted(RequestId{bound.group.number}, now_);
    tuner->progressed(RequestId{bound.group.number}, now_, bound.job_tokens);
  }
  return std::move(bound.group);
}

bool DispatchQueue::erase(RequestId request) {
  if (!places_.contains(request)) return false;
  Waiting waiting = take(request);
  std::vector<sched::Request>& requests = waiting.group.requests;
  std::erase_if(requests, [&](const sched::Request& each) { return each.id == request; });
  if (requests.empty()) {
    if (sched::AgingTuner* tuner = this->tuner(waiting.entry.request_class))
      tuner->ended(RequestId{waiting.group.number}, now_);
    return true;
  }
  DispatchGroup rest = make_group(std::move(requests), {.page_tokens = options_.page_tokens,
                                                        .prefix_caching = options_.prefix_caching});
  rest.hits = std::move(waiting.group.hits);
  rest.tried = std::move(waiting.group.tried);
  rest.arrival = waiting.group.arrival;
  rest.number = waiting.group.number;
  waiting.group = std::move(rest);
  insert(std::move(waiting));
  return true;
}

// Of a group that is not in the queue.
void DispatchQueue::tell(Waiting& waiting, OrderReason reason) {
  waiting.told_key = waiting.entry.key;
  if (!listener_ || !options_.late) return;
  const RequestClass request_class = waiting.entry.request_class;
  listener_(now_, {.request = waiting.group.requests.front().id,
                   .reason = reason,
                   .best_effort = waiting.group.best_effort(),
                   .job_tokens = waiting.job_tokens,
                   .cost = waiting.cost,
                   .ordered = ordered(waiting),
                   .key = waiting.entry.key,
                   .waiting_requests = queues_.size(request_class),
                   .waiting_tokens = queues_.prefill_tokens(request_class),
                   .waited = now_ - waiting.group.arrival,
                   .median_wait = queues_.median_wait()});
}

std::vector<RequestId> DispatchQueue::requests() const {
  std::vector<RequestId> ids;
  for (const RequestClass request_class :
       {RequestClass::kLatencySensitive, RequestClass::kBestEffort}) {
    queues_.for_each(request_class, now_, [&](RequestId first) {
      for (const sched::Request& request : groups_.at(first).group.requests)
        ids.push_back(request.id);
      return true;
    });
  }
  return ids;
}

}  // namespace gimbal::cluster
