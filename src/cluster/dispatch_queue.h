#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "cluster/dispatcher_options.h"
#include "policy/prefill_cost.h"
#include "policy/request_order.h"
#include "sched/aging_tuner.h"
#include "sched/class_queues.h"
#include "sched/order_decision.h"
#include "sched/request.h"

namespace gimbal::cluster {

// The choices of one API request on their way to an engine.
struct DispatchGroup {
  std::vector<sched::Request> requests;
  std::vector<double> own_tokens;  // by request: prompt tokens less what it shares in the group
  double prefill_tokens = 0;       // their sum
  double pages = 0;                // that the prompts take without prefix hits
  std::uint64_t user = 0;          // user_key, or a hash of the first 256 prompt tokens
  std::vector<int> hits;           // by engine: cached prompt tokens
  std::vector<bool> tried;         // by engine: it did not take the group, or must not have it
  TimePoint arrival{};
  std::uint64_t number = 0;  // of groups

  [[nodiscard]] bool best_effort() const {
    return requests.front().request_class == sched::RequestClass::kBestEffort;
  }
  // Of the whole group; the last token is always computed.
  [[nodiscard]] double uncached_on(std::size_t engine) const;
};

struct GroupTraits {
  int page_tokens = 16;
  bool prefix_caching = true;
};
// Fills in what follows from the requests; hits, tried, arrival and number stay empty.
// Requires: not empty.
[[nodiscard]] DispatchGroup make_group(std::vector<sched::Request> requests,
                                       const GroupTraits& traits);

// The groups that have no engine, by class, each in the RequestOrder of late binding: who waits
// longer than its threshold comes first, and a of sjf-aging moves where that is asked for
// (aging_auto; what a group waits for is to be bound, so that work counts as done then). A group
// keeps the job size that it came with.
//
// Costs: O(log n) a call, but where a moves and for requests(). One thread. Options and order must
// outlive it.
class DispatchQueue {
 public:
  DispatchQueue(const DispatcherOptions& options, const policy::RequestOrder& order);

  // Where groups are put from now on, and from where they are bound if it is elsewhere; only of
  // late binding. The listener is called at once.
  void on_order(std::function<void(TimePoint, const sched::OrderDecision&)> listener) {
    listener_ = std::move(listener);
  }
  // Time has come to `now`.
  void advance(TimePoint now);

  // Queues a group of which the best engine would compute `job_tokens`, at that cost. Requires: its
  // requests are not in the queue; its number is its own.
  void push(DispatchGroup group, int job_tokens, const policy::PrefillCost& cost);
  // Queues one again that had been bound.
  void push_back(DispatchGroup group, int job_tokens, const policy::PrefillCost& cost);
  [[nodiscard]] bool empty() const { return groups_.empty(); }
  // The first of its class; null: there is none.
  [[nodiscard]] DispatchGroup* front(bool best_effort);
  // Takes out the first of its class, which is bound. Requires: there is one.
  [[nodiscard]] DispatchGroup bind_front(bool best_effort);
  // Takes a request out of its group. False: it is not here.
  bool erase(RequestId request);

  [[nodiscard]] std::size_t size() const { return groups_.size(); }
  struct Sum {
    std::int64_t requests = 0;
    double prefill_tokens = 0;
  };
  [[nodiscard]] const Sum& sum(bool best_effort) const { return sums_[best_effort ? 1 : 0]; }
  [[nodiscard]] double prefill_tokens() const {
    return sums_[0].prefill_tokens + sums_[1].prefill_tokens;
  }
  [[nodiscard]] std::vector<RequestId> requests() const;  // in order

 private:
  // What a group's place was made of. To tuners_ its number is what a request's id is.
  struct Waiting {
    DispatchGroup group;
    sched::ClassQueues::Entry entry;
    int job_tokens = 0;
    policy::PrefillCost cost;
    policy::OrderKey told_key;  // in the last decision about it
  };

  void push(DispatchGroup group, int job_tokens, const policy::PrefillCost& cost,
            sched::OrderReason reason);
  void count(const DispatchGroup& group, int sign);
  void insert(Waiting waiting);
  [[nodiscard]] Waiting take(RequestId request);
  [[nodiscard]] std::optional<RequestId> first(bool best_effort) const;
  [[nodiscard]] sched::AgingTuner* tuner(sched::RequestClass request_class);
  [[nodiscard]] policy::OrderedRequest ordered(const Waiting& waiting);
  void tell(Waiting& waiting, sched::OrderReason reason);

  const DispatcherOptions& options_;
  const policy::RequestOrder& order_;
  std::function<void(TimePoint, const sched::OrderDecision&)> listener_;
  sched::ClassQueues queues_;                        // of groups, by their first requests
  std::unordered_map<RequestId, Waiting> groups_;    // by the request that stands for it in queues_
  std::unordered_map<RequestId, RequestId> places_;  // all requests → the one in groups_
  std::vector<sched::AgingTuner> tuners_;            // by class; none unless a moves
  TimePoint now_{};
  std::array<Sum, 2> sums_{};  // by class
};

}  // namespace gimbal::cluster
