#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "policy/request_order.h"
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

// The groups that have no engine: classes first, then by the key of the order, then by number. One
// thread.
class DispatchQueue {
 public:
  // Requires: its requests are not in the queue.
  void push(DispatchGroup group, const policy::OrderKey& key);
  [[nodiscard]] bool empty() const { return queue_.empty(); }
  // The first of its class; null: there is none.
  [[nodiscard]] DispatchGroup* front(bool best_effort);
  // Requires: there is one of the class.
  [[nodiscard]] DispatchGroup pop(bool best_effort);
  // The group that has the request; nullopt: none here.
  [[nodiscard]] std::optional<DispatchGroup> take_group_of(RequestId request);

  [[nodiscard]] bool contains(RequestId request) const { return places_.contains(request); }
  [[nodiscard]] std::size_t size() const { return queue_.size(); }
  [[nodiscard]] double prefill_tokens() const { return prefill_tokens_; }
  [[nodiscard]] std::vector<RequestId> requests() const;  // in order

 private:
  using Place = std::tuple<bool, policy::OrderKey, std::uint64_t>;
  [[nodiscard]] std::map<Place, DispatchGroup>::iterator first(bool best_effort);
  [[nodiscard]] DispatchGroup take(std::map<Place, DispatchGroup>::iterator at);

  std::map<Place, DispatchGroup> queue_;
  std::unordered_map<RequestId, Place> places_;
  double prefill_tokens_ = 0;
};

}  // namespace gimbal::cluster
