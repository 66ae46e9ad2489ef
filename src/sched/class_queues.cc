#include "sched/class_queues.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/check.h"

namespace gimbal::sched {
namespace {

constexpr std::int64_t kMostProfiled = 1024;  // requests

}  // namespace

bool ClassQueues::ByKey::operator()(const Entry& a, const Entry& b) const {
  return std::tie(a.key, a.arrival, a.ordinal) < std::tie(b.key, b.arrival, b.ordinal);
}

bool ClassQueues::ByArrival::operator()(const Entry& a, const Entry& b) const {
  return std::tie(a.arrival, a.ordinal) < std::tie(b.arrival, b.ordinal);
}

const ClassQueues::Queue& ClassQueues::queue(RequestClass request_class) const {
  return queues_[static_cast<std::size_t>(request_class)];
}

ClassQueues::Queue& ClassQueues::queue(RequestClass request_class) {
  return queues_[static_cast<std::size_t>(request_class)];
}

ClassQueues::Entry ClassQueues::entry_of(const Sequence& sequence) {
  return {.request_class = sequence.request.request_class,
          .key = sequence.key,
          .arrival = sequence.arrival,
          .ordinal = sequence.ordinal,
          .request = sequence.request.id,
          .prefill = sequence.queued_prefill};
}

void ClassQueues::push(const Entry& entry) {
  Queue& to = queue(entry.request_class);
  GIMBAL_CHECK(to.by_key.insert(entry).second && to.by_arrival.insert(entry).second);
  to.prefill_tokens += entry.prefill;
}

void ClassQueues::erase(const Entry& entry) {
  Queue& from = queue(entry.request_class);
  GIMBAL_CHECK(from.by_key.erase(entry) == 1 && from.by_arrival.erase(entry) == 1);
  from.prefill_tokens -= entry.prefill;
}

void ClassQueues::reorder(RequestClass request_class,
                          FunctionRef<policy::OrderKey(RequestId)> key_of) {
  std::set<Entry, ByKey>& by_key = queue(request_class).by_key;
  std::set<Entry, ByKey> reordered;
  while (!by_key.empty()) {
    auto node = by_key.extract(by_key.begin());
    node.value().key = key_of(node.value().request);
    reordered.insert(std::move(node));
  }
  by_key = std::move(reordered);
}

void ClassQueues::visit_entries(RequestClass request_class, TimePoint now,
                                FunctionRef<bool(const Entry&, bool)> visit) const {
  const Queue& from = queue(request_class);
  const auto promote_after = order_.promote_after(median_wait_);
  const auto promoted = [&](const Entry& entry) {
    return promote_after && now - entry.arrival > *promote_after;
  };
  for (const Entry& entry : from.by_arrival) {
    if (!promoted(entry)) break;
    if (!visit(entry, true)) return;
  }
  for (const Entry& entry : from.by_key) {
    if (!promoted(entry) && !visit(entry, false)) return;
  }
}

void ClassQueues::for_each(RequestClass request_class, TimePoint now,
                           FunctionRef<bool(RequestId)> visit) const {
  visit_entries(request_class, now,
                [&](const Entry& entry, bool /*promoted*/) { return visit(entry.request); });
}

policy::QueueProfile ClassQueues::profile(RequestClass request_class, TimePoint now) const {
  policy::QueueProfile profile;
  const std::int64_t looked_at = std::min(size(request_class), kMostProfiled);
  const std::int64_t slice =
      (looked_at + policy::QueueProfile::kMostPoints - 1) / policy::QueueProfile::kMostPoints;
  std::int64_t requests = 0;
  double tokens = 0;
  visit_entries(request_class, now, [&](const Entry& entry, bool promoted) {
    ++requests;
    tokens += entry.prefill;
    if (requests % slice == 0 || requests == looked_at) {
      profile.add({promoted ? policy::QueueProfile::kFirst : entry.key, tokens,
                   static_cast<double>(requests)});
    }
    return requests < looked_at;
  });
  return profile;
}

void ClassQueues::note_wait(Duration wait) {
  waits_[waits_seen_++ % kWaits] = wait;
  median_wait_ = find_median_wait();
}

Duration ClassQueues::find_median_wait() const {
  const std::size_t count = std::min(waits_seen_, kWaits);
  std::array<Duration, kWaits> sorted = waits_;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(count / 2);
  std::nth_element(sorted.begin(), middle, sorted.begin() + static_cast<std::ptrdiff_t>(count));
  return *middle;
}

std::int64_t ClassQueues::size(RequestClass request_class) const {
  return static_cast<std::int64_t>(queue(request_class).by_key.size());
}

std::int64_t ClassQueues::size() const {
  return size(RequestClass::kLatencySensitive) + size(RequestClass::kBestEffort);
}

std::int64_t ClassQueues::prefill_tokens(RequestClass request_class) const {
  return queue(request_class).prefill_tokens;
}

std::int64_t ClassQueues::prefill_tokens() const {
  return prefill_tokens(RequestClass::kLatencySensitive) +
         prefill_tokens(RequestClass::kBestEffort);
}

}  // namespace gimbal::sched
