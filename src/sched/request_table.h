#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "kv/kv_cache.h"
#include "policy/prefill_cost.h"
#include "policy/request_order.h"
#include "sched/request.h"

namespace gimbal::sched {

enum class Phase : std::uint8_t {
  kWaiting,  // in a queue, holds no pages
  kPrefill,  // holds pages; some of its known tokens but the newest are not computed
  kDecode,   // holds pages; all its tokens but the newest are computed
};

// A request and all that its engine knows of it.
struct Sequence {
  Request request;  // its prompt has moved into `tokens`
  Phase phase = Phase::kWaiting;
  bool in_batch = false;   // of the step that runs now
  bool cancelled = false;  // leaves that batch at the next boundary

  // Prompt and generated tokens. Does not move in memory while the sequence holds pages.
  std::vector<TokenId> tokens;
  int prompt_tokens = 0;
  int max_tokens_known = 0;              // tokens never holds more
  int computed = 0;                      // tokens[0, computed) have their KV written
  std::optional<kv::SequenceSlot> slot;  // while it holds pages

  // Its place in the queue; kept when it is evicted, but for a of sjf-aging where that moves.
  policy::OrderKey key;
  TimePoint arrival{};
  std::uint64_t ordinal = 0;  // of submission
  int queued_prefill = 0;     // while waiting: the uncached tokens it is counted with
  // Its job, frozen when it was first queued.
  int job_tokens = 0;
  policy::PrefillCost job_cost;
  double job_ms = 0;
  policy::OrderKey told_key;  // of the last OrderDecision about it

  TimePoint admitted{};     // first admission
  TimePoint first_token{};  // when it was told
  bool was_admitted = false;
  int cached_tokens = 0;          // hit at first admission
  std::uint64_t last_served = 0;  // the step that ran it last
  bool evicted_since_token = false;
  int lost_tokens = 0;           // computed ones lost by evictions, until admitted again
  int prompt_logprobs_told = 0;  // entries of the prompt's logprobs given out so far

  [[nodiscard]] bool best_effort() const {
    return request.request_class == RequestClass::kBestEffort;
  }
  [[nodiscard]] int known() const { return static_cast<int>(tokens.size()); }
  [[nodiscard]] int uncomputed() const { return known() - computed; }
  [[nodiscard]] int generated() const { return known() - prompt_tokens; }
};

// All requests of one engine, from submission to their end. Others hold ids. References stay valid
// until the request is erased. One thread.
class RequestTable {
 public:
  // Requires: an id that is not here. `max_model_len` bounds what it may ever hold.
  Sequence& add(Request request, TimePoint now, int max_model_len);
  void erase(RequestId id);  // requires: it is here

  [[nodiscard]] Sequence* find(RequestId id);
  [[nodiscard]] Sequence& at(RequestId id);  // requires: it is here
  [[nodiscard]] const Sequence& at(RequestId id) const;
  [[nodiscard]] std::size_t size() const { return sequences_.size(); }

 private:
  std::unordered_map<RequestId, Sequence> sequences_;
  std::uint64_t submitted_ = 0;
};

}  // namespace gimbal::sched
