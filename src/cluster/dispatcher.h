#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/decision_log.h"
#include "cluster/dispatch_queue.h"
#include "cluster/dispatcher_options.h"
#include "cluster/engine.h"
#include "cluster/engine_ledger.h"
#include "cluster/engine_views.h"
#include "cluster/engine_watch.h"
#include "cluster/expert_rows.h"
#include "cluster/sticky_users.h"
#include "policy/dispatch.h"
#include "policy/late_binding.h"
#include "policy/request_order.h"
#include "sched/request.h"

namespace gimbal::cluster {

class DispatchRecorder;

// A group of requests and the engine that it goes to. Its requests carry the dispatch's sequence
// number.
struct Dispatched {
  EngineId engine;
  std::vector<sched::Request> group;
  // For give_back: the engines that were tried before, and when the group came.
  std::vector<bool> tried;
  TimePoint arrival{};
};

// Decides which engine serves which requests (docs/design/0009). A state machine: everything
// that it knows comes in by its calls, time too, so the same calls give the same decisions. It
// calls nobody: who owns it gives it what engines publish, takes decisions with next(), and carries
// them out.
//
// Binding. Early: a group goes to an engine when it arrives. Late: it waits here, by class in the
// RequestOrder (its job size is p − the longest hit), and the head of a class goes to the best
// engine among those with at most `late_steps` full steps of prefill of its class ahead and pages
// for it now (policy/late_binding.h); until there is one it waits and nothing of its class
// overtakes it. Best-effort heads are not held up by latency-sensitive work, for engines give their
// class its share, but by a latency-sensitive head that lacks pages. Where no engine has any
// request, a group goes at once. That a head waits, and why, is a decision too: it is recorded when
// it begins.
//
// Pins. A group whose first request is pinned goes to that engine or fails: no rule sees room on
// any other. With late binding it waits for that engine, and what is behind it waits too.
//
// Bounds. A group is refused when every engine's queue is full (early), or when what waits here and
// there exceeds all engines' bounds (late). An empty queue takes any group.
//
// Thread rule: one thread at a time; the owner locks.
class Dispatcher {
 public:
  // Errors: an unknown rule or order, an option out of range; they name it.
  // `recorder` may be null; it is told every call and decision.
  [[nodiscard]] static Result<std::unique_ptr<Dispatcher>> make(
      const DispatcherOptions& options, DispatchRecorder* recorder = nullptr);

  // What became known of an engine.
  void note_snapshot(EngineId engine, const EngineSnapshot& snapshot);
  void note_prefix(EngineId engine, std::span<const kv::PrefixEvent> events);
  void note_expert_pressure(EngineId engine, std::optional<double> pressure);
  // By which map its group sends rows to experts, for an engine of a group.
  void note_expert_map(EngineId engine, std::uint64_t fingerprint);
  void note_health(EngineId engine, bool healthy, TimePoint now);
  // The request's prompt is computed; it has ended, there or in the queue here. Unknown ones are
  // ignored.
  void note_first_token(RequestId request);
  void note_end(RequestId request);
  // Which ranks ran its rows, before its end: so it is known what is local to whom of what its user
  // asks for next. Rows of another map than the one that is known of the engine are ignored.
  void note_expert_rows(RequestId request, const ExpertRows& rows);

  // Queues a group. kResourceExhausted: full. kInvalidArgument: pinned to an engine that there is
  // not, or not all of one class. Requires: not empty; the ids are not known here.
  [[nodiscard]] Result<void> submit(std::vector<sched::Request> group, TimePoint now);
  // The next group to send and where; nullopt: nothing can be bound now. Call until then.
  [[nodiscard]] std::optional<Dispatched> next(TimePoint now);
  // The engine did not take the group, or failed before anything of it was told: the group waits
  // for another one, at its old place. False: every engine was tried; the group stays with the
  // caller. Requests of it that have been told something may have been taken out before.
  [[nodiscard]] bool give_back(Dispatched& dispatched);
  // Takes a request out of the queue here. False: it is not there.
  bool cancel_queued(RequestId request);
  // Those that were sent to an engine and have not ended.
  [[nodiscard]] std::vector<RequestId> requests_of(EngineId engine) const;
  // Where a request was sent. nullopt: nowhere, or it has ended.
  [[nodiscard]] std::optional<EngineId> engine_of(RequestId request) const;

  [[nodiscard]] const DispatcherOptions& options() const { return options_; }
  [[nodiscard]] const DecisionLog& log() const { return log_; }
  // Called with every record when it is made.
  void on_decision(std::function<void(const DecisionRecord&)> listener) {
    listener_ = std::move(listener);
  }
  // Called with every decision about a place in the queue of late binding when it is made.
  void on_order(std::function<void(TimePoint, const sched::OrderDecision&)> listener);
  // What a rule would be shown of the engine now, for a request without prefix hits.
  [[nodiscard]] policy::EngineView view(EngineId engine, TimePoint now) const {
    return known_.view(engine, now);
  }
  [[nodiscard]] const EngineWatch& watch(EngineId engine) const { return known_.at(engine).watch; }
  [[nodiscard]] const EngineLedger& ledger(EngineId engine) const {
    return known_.at(engine).ledger;
  }
  [[nodiscard]] std::optional<double> expert_pressure(EngineId engine) const {
    return known_.at(engine).pressure;
  }
  // Requests.
  [[nodiscard]] std::uint64_t dispatched(EngineId engine) const {
    return known_.at(engine).dispatched;
  }
  [[nodiscard]] std::int64_t cached_pages(EngineId engine) const {
    return known_.cached_pages(engine);
  }
  [[nodiscard]] std::vector<RequestId> queued_requests() const { return queue_.requests(); }
  [[nodiscard]] std::size_t queued_groups() const { return queue_.size(); }
  [[nodiscard]] double queued_prefill_tokens() const { return queue_.prefill_tokens(); }
  [[nodiscard]] const DispatchQueue::Sum& queued(bool best_effort) const {
    return queue_.sum(best_effort);
  }

 private:
  struct Sent {
    EngineId engine;
    std::uint64_t user = 0;
  };
  struct Rules {
    std::unique_ptr<policy::Dispatch> dispatch;
    std::unique_ptr<policy::RequestOrder> order;
  };
  Dispatcher(const DispatcherOptions& options, Rules rules, DispatchRecorder* recorder);

  [[nodiscard]] GroupTraits traits() const {
    return {.page_tokens = options_.page_tokens, .prefix_caching = options_.prefix_caching};
  }
  // Numbers the group, and looks up the tokens that the best engine would compute of it.
  [[nodiscard]] int prepare(DispatchGroup& group);
  void end(RequestId request);
  [[nodiscard]] Result<void> check_bounds(const DispatchGroup& group, TimePoint now) const;
  [[nodiscard]] policy::DispatchRequest describe(const DispatchGroup& group) const;
  // Of what is shown of the engines. `group`: the first of its class.
  [[nodiscard]] Dispatched decide(const DispatchGroup& group,
                                  const policy::DispatchRequest& request, TimePoint now);
  // The head of a class waits.
  void hold(const DispatchGroup& group, const policy::DispatchRequest& request,
            policy::LateHold why, TimePoint now);
  void send(DispatchGroup& group, EngineId engine);
  void record(const DispatchGroup& group, const policy::DispatchRequest& request, TimePoint now);

  const DispatcherOptions options_;
  DispatchRecorder* const recorder_;
  const Rules rules_;
  EngineViews known_;
  StickyUsers users_;
  DecisionLog log_;
  std::function<void(const DecisionRecord&)> listener_;
  DispatchQueue queue_;
  std::unordered_map<RequestId, Sent> sent_;  // requests that are with an engine
  std::uint64_t groups_ = 0;                  // so far
  std::uint64_t sequence_ = 0;                // of dispatches
  std::uint64_t turns_ = 0;                   // decisions of the rule
  std::uint64_t decisions_ = 0;
  struct Held {
    std::uint64_t group = 0;  // its number
    policy::LateHold why = policy::LateHold::kNone;

    bool operator==(const Held&) const = default;
  };
  std::array<Held, 2> held_{};         // by class: what was recorded last
  policy::DispatchDecision decision_;  // reused from decision to decision
};

}  // namespace gimbal::cluster
