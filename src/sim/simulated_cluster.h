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
#include "sim/event_queue.h"
#include "sim/request_log.h"
#include "sim/simulated_engine.h"
#include "sim/simulated_group.h"
#include "workload/request_spec.h"

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
  TokenId first_token = 0;  // the lowest id that prompts use
  int topics = 1;           // of the workload, each with tokens of its own
  std::uint64_t seed = 0;   // of delays and losses
  // Draws every engine's steps; null: nothing. Outlives the cluster.
  Trace* trace = nullptr;
  // Told of every dispatch decision; may be empty.
  std::function<void(const cluster::DecisionRecord&)> on_decision;
  // As `serve --record` writes them; null: not.
  cluster::DispatchRecorder* dispatch_recorder = nullptr;
  std::vector<sched::EventRecorder*> recorders;  // by engine, or empty
};

// A whole serving system on virtual time: groups of engines, the production dispatcher before them,
// and the requests of a workload. Nothing in it decides but sched, cluster and policy. Made for one
// run. One thread.
class SimulatedCluster final : private EngineObserver, private EventTarget {
 public:
  // Errors: as Dispatcher::make and SimulatedGroup::make; a script that names no engine. The
  // workload, the hardware and the recorders must outlive it.
  [[nodiscard]] static Result<std::unique_ptr<SimulatedCluster>> make(
      SimulatedClusterOptions options, const workload::Workload& workload);

  // Runs until every request has ended, or nothing happens any more. `progress` is called now and
  // then with the number of ended requests, and ends the run when it returns false.
  void run(const std::function<bool(std::size_t)>& progress = {});

  [[nodiscard]] const RequestLog& log() const { return log_; }
  [[nodiscard]] TimePoint now() const { return queue_.now(); }
  [[nodiscard]] const EventQueue& queue() const { return queue_; }
  [[nodiscard]] const cluster::Dispatcher& dispatcher() const { return *dispatcher_; }
  [[nodiscard]] int size() const { return static_cast<int>(places_.size()); }
  [[nodiscard]] SimulatedEngine& engine(int index);
  [[nodiscard]] std::span<const std::unique_ptr<SimulatedGroup>> groups() const { return groups_; }

 private:
  struct Place {
    int group = 0;
    Rank rank;
    std::uint64_t noted = 0;  // version of the last snapshot that the dispatcher was given
    std::optional<double> pressure;
    bool told_pressure = false;
    bool down = false;  // known not to take requests
  };
  // A snapshot under way.
  struct Signal {
    EngineId engine;
    cluster::EngineSnapshot snapshot;
    std::vector<kv::PrefixEvent> prefix;
    bool taken = false;
  };
  enum EventKind : std::uint64_t { kArrival, kScript, kNotice, kSignal };

  SimulatedCluster(SimulatedClusterOptions options, const workload::Workload& workload);
  [[nodiscard]] Result<void> build();
  [[nodiscard]] Result<void> check_script() const;
  void schedule(Duration at, EventKind kind, std::uint64_t value);

  void on_outputs(SimulatedEngine& engine, sched::Outputs& outputs) override;
  void on_event(std::uint64_t what) override;
  void arrive(std::size_t index);
  void submit(std::size_t index);
  void send_all();
  void send(cluster::Dispatched& dispatched);
  void give_back_or_end(cluster::Dispatched& dispatched, RequestEnd end);
  void retry(EngineId engine, RequestId request, RequestEnd otherwise);
  void end(std::size_t index, RequestEnd how);
  void note(const sched::TokenNews& news);
  [[nodiscard]] sched::Request make_request(std::size_t index) const;
  [[nodiscard]] static std::size_t index_of(RequestId request) {
    return static_cast<std::size_t>(request.value()) - 1;
  }

  void fetch();
  void note_pressure(EngineId engine);
  void publish(SimulatedEngine& engine);
  void take_signal(std::size_t number);
  void keep_down();
  void set_down(EngineId engine, bool down);
  void play(const ScriptEvent& event);
  void notice_failure(EngineId engine);

  SimulatedClusterOptions options_;
  const workload::Workload& workload_;
  EventQueue queue_;
  RequestLog log_;
  std::vector<std::uint8_t> topics_;  // by request
  Rng rng_;
  std::unique_ptr<cluster::Dispatcher> dispatcher_;
  std::vector<std::unique_ptr<SimulatedGroup>> groups_;
  std::vector<Place> places_;                               // by engine
  std::unordered_map<RequestId, std::vector<bool>> tried_;  // of requests that came back
  std::deque<Signal> signals_;
  std::uint64_t first_signal_ = 0;                         // number of signals_.front()
  std::vector<std::vector<kv::PrefixEvent>> late_prefix_;  // by engine: not sent with a lost signal
  std::size_t arrived_ = 0;
  bool sending_ = false;
  int down_ = 0;  // engines known not to take requests
  std::int64_t max_model_len_ = 0;
  int vocab_size_ = 0;
};

}  // namespace gimbal::sim
