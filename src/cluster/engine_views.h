#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "cluster/dispatch_queue.h"
#include "cluster/dispatcher_options.h"
#include "cluster/engine.h"
#include "cluster/engine_ledger.h"
#include "cluster/engine_watch.h"
#include "cluster/expert_rows.h"
#include "cluster/prefix_mirror.h"
#include "kv/prefix_index.h"
#include "policy/dispatch.h"
#include "policy/late_binding.h"
#include "policy/request_order.h"

namespace gimbal::cluster {

// What is known of all engines, from what they publish and from what was sent to them, and how a
// rule sees it. Costs of a decision: one pass over the engines, which reads of a snapshot a few
// numbers; the rest of it is filled into the engine's view once.
//
// One thread; a function of its calls. Options and order must outlive it.
class EngineViews {
 public:
  struct Engine {
    EngineWatch watch;
    EngineLedger ledger;
    std::optional<double> pressure;
    std::size_t rank = 0;                     // in its group
    std::optional<std::uint64_t> expert_map;  // fingerprint of the one that its group has
    // As `vllm` counts: those of the snapshot, now and then, and what was sent since.
    double counted_waiting = 0;
    double counted_running = 0;
    std::uint64_t dispatched = 0;  // requests, so far
  };

  // `order`: the engines' own, for what is ahead of a request there.
  EngineViews(const DispatcherOptions& options, const policy::RequestOrder& order);

  [[nodiscard]] std::size_t size() const { return engines_.size(); }
  [[nodiscard]] const Engine& at(EngineId engine) const;

  // What became known of an engine. False: the snapshot is not newer than the newest, and ignored.
  bool note_snapshot(EngineId engine, const EngineSnapshot& snapshot);
  void note_prefix(EngineId engine, std::span<const kv::PrefixEvent> events);
  void note_expert_pressure(EngineId engine, std::optional<double> pressure);
  void note_expert_map(EngineId engine, std::uint64_t fingerprint);
  void note_health(EngineId engine, bool healthy, TimePoint now);
  // What becomes of a request there, as EngineLedger has it.
  void note_sent(EngineId engine, const LedgerEntry& entry);
  void note_first_token(EngineId engine, RequestId request);
  void note_end(EngineId engine, RequestId request);

  // Fills in the hits of a group. What a request shares with the one before it counts once.
  void find_hits(DispatchGroup& group);
  [[nodiscard]] std::int64_t cached_pages(EngineId engine) const { return mirror_.pages(engine); }
  // What computing prompts costs: the mean of what engines say, or the options'.
  [[nodiscard]] policy::PrefillCost prefill_cost() const;

  // Prompt tokens that wait there, and how many may; 0: not known, and so any number.
  [[nodiscard]] double waiting_tokens(std::size_t index) const;
  [[nodiscard]] double most_waiting(std::size_t index) const {
    return digests_[index].most_waiting;
  }
  [[nodiscard]] bool has_room(std::size_t index, double prefill_tokens) const;
  // It failed, or a probe of it did: it is left out for now.
  [[nodiscard]] bool excluded(std::size_t index, TimePoint now) const {
    return engines_[index].watch.freshness(now) == policy::Freshness::kExcluded;
  }
  // There is an engine that is not, and that the group has not tried.
  [[nodiscard]] bool anybody_left(const DispatchGroup& group, TimePoint now) const;

  // The engines as a rule sees them for this group, whose hits are known; engines that it has tried
  // have no room. `rows`: where its user's expert rows went; null: not known. Holds until the next
  // call.
  const std::vector<policy::EngineView>& show(const DispatchGroup& group, const ExpertRows* rows,
                                              TimePoint now);
  // Of what is shown, leaves room only on engines that would start the group soon.
  [[nodiscard]] policy::LateHold limit_to_soon(const policy::DispatchRequest& group) {
    return policy::limit_to_soon(group, options_.late_steps, views_);
  }
  [[nodiscard]] const std::vector<policy::EngineView>& shown() const { return views_; }
  // One engine, for a request without prefix hits.
  [[nodiscard]] policy::EngineView view(EngineId engine, TimePoint now) const;

 private:
  // Of an engine's newest snapshot, what every arrival looks at: side by side for all engines, for
  // whole snapshots of many of them do not fit the caches.
  struct Digest {
    double waiting_tokens = 0;    // prefill
    double most_waiting = 0;      // of it; 0: not known, and so none
    double sensitive_tokens = 0;  // of it, not best-effort
    double ms_per_token = 0;      // c1; 0: not known
    std::uint64_t prefill_rows = 0;
    bool fitted = false;           // has step times
    bool profiled = false;         // the queues are
    std::array<bool, 2> queued{};  // by class, best-effort second: the profile has points
    bool in_view = false;          // views_ has the snapshot
  };

  [[nodiscard]] Engine& of(EngineId engine);
  void refresh_counts(TimePoint now);
  void close_excluded(const DispatchGroup& group, TimePoint now);
  [[nodiscard]] std::optional<policy::StepCosts> shared_costs(TimePoint now) const;
  [[nodiscard]] std::optional<double> local_share(std::size_t index, const ExpertRows& rows,
                                                  double all) const;
  // What stays until the next snapshot, and what may change with every decision.
  void begin_view(std::size_t index, policy::EngineView& view) const;
  void fill_view(std::size_t index, TimePoint now, policy::EngineView& view) const;
  [[nodiscard]] std::optional<double> tokens_ahead(const DispatchGroup& group, std::size_t index,
                                                   TimePoint now) const;

  const DispatcherOptions& options_;
  const policy::RequestOrder& order_;
  std::vector<Engine> engines_;
  std::vector<Digest> digests_;  // by engine
  PrefixMirror mirror_;
  TimePoint counted_at_{};
  bool counted_ = false;
  // Reused from decision to decision; of a snapshot that a view has, nothing is filled in again.
  std::vector<policy::EngineView> views_;
  std::vector<int> request_hits_;  // work space
};

}  // namespace gimbal::cluster
