#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/random.h"
#include "base/result.h"
#include "base/trace.h"
#include "cluster/dispatch_recorder.h"
#include "cluster/dispatcher.h"
#include "cost/cost_model.h"
#include "cost/expert_load_table.h"
#include "cost/routing_model.h"
#include "policy/expert_map.h"
#include "sched/event_recorder.h"
#include "sched/order_decision.h"
#include "sim/event_queue.h"
#include "sim/request_end.h"
#include "sim/request_text.h"
#include "sim/simulated_engine.h"
#include "sim/simulated_group.h"

namespace gimbal::sim {

// What engines say reaches the dispatcher so much later. No delay and no loss: it sees them as they
// are when it decides.
struct SignalOptions {
  Duration delay{};
  Duration jitter{};  // uniform in [0, jitter), added
  double loss = 0;    // probability, of snapshots; prefix changes come with the next one

  [[nodiscard]] bool instant() const {
    return delay == Duration{} && jitter == Duration{} && loss == 0;
  }
  bool operator==(const SignalOptions&) const = default;
};

// Something that happens to an engine.
struct ScriptEvent {
  enum class Kind : std::uint8_t {
    kFail,   // it is gone; what it had told nobody of yet goes to other engines
    kStart,  // it takes requests from now on, and took none before
    kStop,   // it takes no requests any more, and ends those that it has
    kSlow,   // it takes `factor` times as long from now on
  };
  Kind kind = Kind::kFail;
  Duration at{};
  EngineId engine;
  double factor = 1;         // kSlow
  Duration noticed_after{};  // kFail: until then nobody knows, and who steps with it waits

  bool operator==(const ScriptEvent&) const = default;
};

// What the ranks of a group are made of. Groups that are alike share one.
struct GroupHardware {
  cost::CostModel model;
  cost::RoutingModel routing;
  policy::ExpertMap map;
  cost::ExpertLoadTable loads;  // of the map
};

struct SimulatedClusterOptions {
  struct Group {
    const GroupHardware* hardware = nullptr;
    SimulatedGroupOptions options;  // filled in: first_engine
  };
  std::vector<Group> groups;  // at least one
  // Filled in: engines, groups, and what it shares with the engines' schedulers.
  cluster::DispatcherOptions dispatch;
  SignalOptions signals;
  std::vector<ScriptEvent> script;
  // Of a workload's prompts: the lowest id that they use, and topics with tokens of their own.
  TokenId first_token = 0;
  int topics = 1;
  std::uint64_t seed = 0;  // of delays and losses
  // Draws every engine's steps; null: nothing. Outlives the cluster.
  Trace* trace = nullptr;
  // Told of every dispatch decision; may be empty.
  std::function<void(const cluster::DecisionRecord&)> on_decision;
  // Told where engines queue requests, with scheduler.report_order, and where the dispatcher does,
  // without an engine, with late binding; may be empty.
  std::function<void(std::optional<EngineId>, TimePoint, std::span<const sched::OrderDecision>)>
      on_orders;
  // As `serve --record` writes them; null: not.
  cluster::DispatchRecorder* dispatch_recorder = nullptr;
  std::vector<sched::EventRecorder*> recorders;  // by engine, or empty
};

// Who keeps the requests of a ServingCluster: it asks for what it needs to know of them, and tells
// what becomes of them, while events are handled. Must not call the cluster from here.
class RequestBook : public RequestText {
 public:
  // The request is given to this engine; -1: to none any more, for now.
  virtual void on_sent(RequestId request, EngineId engine) = 0;
  // An engine says something of it; with `finish` it has ended. May move from it. Returns whether
  // this is the first that is said of it.
  virtual bool on_news(sched::TokenNews& news) = 0;
  // It ends, and no engine has said so: not kCompleted.
  virtual void on_end(RequestId request, RequestEnd how, const Error& why) = 0;
  // The request as it was submitted, for another engine, and when that was.
  [[nodiscard]] virtual sched::Request request(RequestId request) const = 0;
  [[nodiscard]] virtual TimePoint arrival(RequestId request) const = 0;
  // Whether anything was said of it.
  [[nodiscard]] virtual bool told(RequestId request) const = 0;
  // Those that were sent to the engine last and have not ended, ascending.
  [[nodiscard]] virtual std::vector<RequestId> requests_at(EngineId engine) const = 0;
};

// A whole serving system on virtual time: groups of engines, and the production dispatcher before
// them. Nothing in it decides but sched, cluster and policy. Requests come by submit(), time goes
// on by run_until() or the queue. One thread.
class ServingCluster final : private EngineObserver, private EventTarget {
 public:
  // Errors: as Dispatcher::make and SimulatedGroup::make; a script that names no engine. The book,
  // the hardware and the recorders must outlive it.
  [[nodiscard]] static Result<std::unique_ptr<ServingCluster>> make(SimulatedClusterOptions options,
                                                                    RequestBook& book);

  // Puts the script into the queue; once, before anything else.
  void start();
  // Gives a group to the dispatcher, now. kResourceExhausted: refused, and nothing is told of it.
  // Requires: known to the book; no id was used before.
  [[nodiscard]] Result<void> submit(std::vector<sched::Request> group);
  // The same to one engine, past the dispatcher. False: it takes none.
  [[nodiscard]] bool submit_to(EngineId engine, std::vector<sched::Request> group);
  // Ends a request early: the book is told so, now or at the engine's next stage. Unknown ones are
  // ignored.
  void cancel(RequestId request);
  // Handles events up to and at `time`, at most `most_events`, then lets time pass until there.
  // False: there are more. Requires: not before now().
  bool run_until(TimePoint time, std::size_t most_events);

  // Brings what engines have published to the dispatcher, where signals take no time.
  void fetch();

  [[nodiscard]] EventQueue& queue() { return queue_; }
  [[nodiscard]] const EventQueue& queue() const { return queue_; }
  [[nodiscard]] TimePoint now() const { return queue_.now(); }
  [[nodiscard]] const cluster::Dispatcher& dispatcher() const { return *dispatcher_; }
  [[nodiscard]] int size() const { return static_cast<int>(places_.size()); }
  [[nodiscard]] SimulatedEngine& engine(int index);
  [[nodiscard]] std::span<const std::unique_ptr<SimulatedGroup>> groups() const { return groups_; }
  [[nodiscard]] const SimulatedClusterOptions& options() const { return options_; }
  // Of one request, at every engine.
  [[nodiscard]] std::int64_t max_model_len() const { return max_model_len_; }
  [[nodiscard]] int vocab_size() const { return vocab_size_; }

 private:
  struct Place {
    int group = 0;
    Rank rank;
    std::uint64_t noted = 0;  // version of the last snapshot that the dispatcher was given
    bool changed = false;     // is in changed_
    std::optional<double> pressure;
    bool told_pressure = false;
    std::optional<std::uint64_t> told_map;  // fingerprint of the one that the dispatcher knows
    bool down = false;                      // known not to take requests
  };
  // A snapshot under way.
  struct Signal {
    EngineId engine;
    cluster::EngineSnapshot snapshot;
    std::vector<kv::PrefixEvent> prefix;
    bool taken = false;
  };
  enum EventKind : std::uint64_t { kScript, kNotice, kSignal };

  ServingCluster(SimulatedClusterOptions options, RequestBook& book);
  [[nodiscard]] Result<void> build();
  [[nodiscard]] Result<void> check_script() const;
  void schedule(Duration at, EventKind kind, std::uint64_t value);

  void on_outputs(SimulatedEngine& engine, sched::Outputs& outputs) override;
  void on_event(std::uint64_t what) override;
  void send_all();
  void send(cluster::Dispatched& dispatched);
  void give_back_or_end(cluster::Dispatched& dispatched, RequestEnd end, const Error& why);
  void retry(EngineId engine, RequestId request, RequestEnd otherwise, const Error& why);
  void end(RequestId request, RequestEnd how, const Error& why);
  void note(sched::TokenNews& news);
  void note_expert_rows(RequestId request);

  void note_change(EngineId engine);
  void note_experts(EngineId engine);
  void publish(SimulatedEngine& engine);
  void take_signal(std::size_t number);
  void keep_down();
  void set_down(EngineId engine, bool down);
  void play(const ScriptEvent& event);
  void notice_failure(EngineId engine);

  SimulatedClusterOptions options_;
  RequestBook& book_;
  EventQueue queue_;
  Rng rng_;
  std::unique_ptr<cluster::Dispatcher> dispatcher_;
  std::vector<std::unique_ptr<SimulatedGroup>> groups_;
  std::vector<Place> places_;                               // by engine
  std::vector<int> changed_;                                // engines with news for fetch()
  std::unordered_map<RequestId, std::vector<bool>> tried_;  // of requests that came back
  std::deque<Signal> signals_;
  std::uint64_t first_signal_ = 0;                         // number of signals_.front()
  std::vector<std::vector<kv::PrefixEvent>> late_prefix_;  // by engine: not sent with a lost signal
  bool sending_ = false;
  int down_ = 0;  // engines known not to take requests
  std::int64_t max_model_len_ = 0;
  int vocab_size_ = 0;
};

}  // namespace gimbal::sim
