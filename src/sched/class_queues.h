#pragma once

#include <array>
#include <cstdint>
#include <set>

#include "base/clock.h"
#include "base/function_ref.h"
#include "base/ids.h"
#include "policy/queue_profile.h"
#include "policy/request_order.h"
#include "sched/request_table.h"

namespace gimbal::sched {

// Waiting requests, a queue a class, each in its RequestOrder: those of an engine, or of a
// dispatcher that binds late. Keys are computed once, by the owner. push and erase are O(log n).
// One thread. Refers to the order.
class ClassQueues {
 public:
  // Where a request stands.
  struct Entry {
    RequestClass request_class = RequestClass::kLatencySensitive;
    policy::OrderKey key;
    TimePoint arrival{};
    std::uint64_t ordinal = 0;  // of the queue's requests: each has its own
    RequestId request;
    int prefill = 0;  // uncached tokens when it was queued
  };

  explicit ClassQueues(const policy::RequestOrder& order) : order_(order) {}

  void push(const Entry& entry);
  void erase(const Entry& entry);  // requires: it was pushed, or reordered to this key
  // Uses key, arrival, ordinal and queued_prefill of the sequence, which must stay as they are
  // until it is erased.
  void push(const Sequence& sequence) { push(entry_of(sequence)); }
  void erase(const Sequence& sequence) { erase(entry_of(sequence)); }
  // Orders the waiting requests of a class by new keys, which the owner has given them.
  void reorder(RequestClass request_class, FunctionRef<policy::OrderKey(RequestId)> key_of);

  // Visits the waiting requests of a class, first to run first, until `visit` returns false.
  void for_each(RequestClass request_class, TimePoint now,
                FunctionRef<bool(RequestId)> visit) const;

  // The queue of a class in short, in the order of for_each. Looks at the first 1 024 requests.
  [[nodiscard]] policy::QueueProfile profile(RequestClass request_class, TimePoint now) const;

  // Tells how long a request waited: the median of the last ones may be a promotion threshold.
  void note_wait(Duration wait);
  [[nodiscard]] Duration median_wait() const { return median_wait_; }  // 0 of none

  [[nodiscard]] std::int64_t size() const;
  [[nodiscard]] std::int64_t size(RequestClass request_class) const;
  // Uncached prompt tokens of the waiting requests, as they were when they were queued.
  [[nodiscard]] std::int64_t prefill_tokens() const;
  [[nodiscard]] std::int64_t prefill_tokens(RequestClass request_class) const;

 private:
  struct ByKey {
    bool operator()(const Entry& a, const Entry& b) const;
  };
  struct ByArrival {
    bool operator()(const Entry& a, const Entry& b) const;
  };
  struct Queue {
    std::set<Entry, ByKey> by_key;
    std::set<Entry, ByArrival> by_arrival;  // the same entries; their keys mean nothing here
    std::int64_t prefill_tokens = 0;
  };
  static constexpr std::size_t kWaits = 63;

  [[nodiscard]] static Entry entry_of(const Sequence& sequence);
  [[nodiscard]] const Queue& queue(RequestClass request_class) const;
  [[nodiscard]] Queue& queue(RequestClass request_class);
  [[nodiscard]] Duration find_median_wait() const;
  // Visits entries as for_each, with whether they are promoted.
  void visit_entries(RequestClass request_class, TimePoint now,
                     FunctionRef<bool(const Entry&, bool promoted)> visit) const;

  const policy::RequestOrder& order_;
  std::array<Queue, 2> queues_;
  std::array<Duration, kWaits> waits_{};  // a ring
  std::size_t waits_seen_ = 0;
  Duration median_wait_{};  // of them; 0 of none
};

}  // namespace gimbal::sched
