#pragma once

#include <atomic>
#include <cstdint>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "cluster/dispatch_recorder.h"
#include "cluster/dispatcher.h"
#include "cluster/engine.h"
#include "cluster/inspector.h"
#include "engine/engine_fleet.h"
#include "engine/pressure_feed.h"
#include "engine/serving_engine.h"
#include "model/forward.h"

namespace gimbal::engine {

struct DataParallelOptions {
  // The engines. With a record_path FILE, FILE.engine0, FILE.engine1, … and FILE.dispatch are
  // written.
  EngineFleetOptions fleet;
  // How requests get their engines. Filled in: engines, groups, page_tokens, prefix_caching,
  // model_salt, the order and prefill cost of the engines, and what an exchange costs.
  cluster::DispatcherOptions dispatch;
  // What moving the expert rows of a token to other ranks and back costs, of all layers, for the
  // rule; >= 0. nullopt: what the fleet's exchange profile makes it take; 0 without one, for in
  // memory that all ranks share rows do not move.
  std::optional<double> exchange_ms_per_token;
};

// Several engines on one model as one: each with its own KV cache, scheduler and thread, and a
// dispatcher that gives every group of requests to one of them (cluster::Dispatcher). Weights are
// in memory once, and engines may share the work of experts (EngineFleet).
//
// The dispatcher is asked under a lock, on the thread that submits or that brings outputs;
// snapshots and prefix changes are fetched when a decision is due. Failover: when an engine fails,
// those of its requests of which nothing was told go to another engine; the others end with
// kFailed. One whose thread hangs is given up in the same way once the others have declared it
// dead; what it says afterwards is not heard. While an engine is left, the whole is healthy.
//
// Thread-safe, as cluster::Engine is. Outputs go to `sink` on the engines' threads, of one request
// in order; ends of requests that no engine has come on the thread that found out.
class DataParallelEngine final : public cluster::Engine, public cluster::Inspector {
 public:
  // Starts the engines. References must outlive them. Errors: as ServingEngine::start and
  // Dispatcher::make, a file that cannot be written, fewer than one engine.
  [[nodiscard]] static Result<std::unique_ptr<DataParallelEngine>> start(
      const model::Model& model, const DataParallelOptions& options, ThreadPool& pool,
      cluster::TokenSink& sink);
  ~DataParallelEngine() override;  // ends every request with kCancelled

  Result<void> submit(std::vector<sched::Request> group) override;
  void cancel(RequestId request) override;
  // The sums of the engines' snapshots and of what waits for one.
  [[nodiscard]] cluster::EngineSnapshot snapshot() const override;
  [[nodiscard]] const cluster::EngineLimits& limits() const override { return limits_; }
  [[nodiscard]] bool healthy(std::string* why) const override;

  [[nodiscard]] std::vector<cluster::EngineStatus> engine_status() const override;
  [[nodiscard]] cluster::ExpertInspector* experts() const override { return fleet_.get(); }
  [[nodiscard]] cluster::DispatchStatus dispatch_status() const override;
  [[nodiscard]] std::vector<cluster::DecisionRecord> decisions_of(RequestId request) const override;
  [[nodiscard]] std::vector<cluster::DecisionRecord> last_decisions(
      std::size_t most) const override;

  // By engine.
  [[nodiscard]] std::vector<cluster::EngineSnapshot> snapshots() const;
  // Accepts nothing from now on; what was accepted goes on.
  void drain();
  // No request is queued or runs.
  [[nodiscard]] bool idle() const;
  // An engine's thread was declared dead and may hang for ever: the destructor would wait for it.
  [[nodiscard]] bool hangs() const;
  [[nodiscard]] const ServingEngineOptions& engine_options() const;

 private:
  // What one engine says goes through here.
  class EngineSink final : public cluster::TokenSink {
   public:
    EngineSink(DataParallelEngine& owner, EngineId engine) : owner_(owner), engine_(engine) {}
    void on_outputs(std::span<cluster::TokenOutput> outputs) override {
      owner_.on_outputs(engine_, outputs);
    }

   private:
    DataParallelEngine& owner_;
    EngineId engine_;
  };
  // A request that an engine has, until something of it is told: what another engine would need.
  struct Untold {
    sched::Request request;
    std::vector<bool> tried;
    TimePoint arrival{};
    bool cancelled = false;
  };
  using Outputs = std::vector<cluster::TokenOutput>;
  // A group that no engine took.
  struct Refused {
    std::vector<sched::Request> group;
    Error why;
  };

  DataParallelEngine(const DataParallelOptions& options, cluster::TokenSink& sink);
  [[nodiscard]] Result<void> open_files(cluster::DispatcherOptions dispatch);
  [[nodiscard]] ServingEngine& engine(EngineId id) const;
  void on_outputs(EngineId from, std::span<cluster::TokenOutput> outputs);
  void on_retired();
  void tell(Outputs& outputs);

  static void add_refusal(const Refused& refused, Outputs& outputs);

  // All below: the lock is held.
  void fetch_published() const;
  void fetch(TimePoint now);
  [[nodiscard]] std::vector<Refused> send_all(TimePoint now);
  // After something has changed: sends what can go. Adds what is to be told to `outputs`.
  void go_on(Outputs& outputs);
  [[nodiscard]] Result<void> send(cluster::Dispatched& dispatched);
  void note_failure(EngineId engine, TimePoint now);
  void give_up(EngineId engine);
  // Whether the output is to be told; else its request goes to another engine.
  [[nodiscard]] bool take_note(EngineId from, cluster::TokenOutput& output);
  [[nodiscard]] bool retry(EngineId from, RequestId request);
  [[nodiscard]] bool was_cancelled(RequestId request) const;

  const DataParallelOptions options_;
  cluster::TokenSink& sink_;
  SteadyClock clock_;
  cluster::EngineLimits limits_;

  mutable std::mutex mutex_;  // guards what follows, up to the engines
  std::ofstream record_;
  std::optional<cluster::DispatchRecorder> recorder_;
  std::unique_ptr<cluster::Dispatcher> dispatcher_;
  std::unordered_map<RequestId, Untold> untold_;
  std::vector<bool> failed_;                // by engine: it was told so
  std::vector<bool> given_up_;              // by engine: it hangs, and is not heard any more
  Outputs lost_;                            // ends of requests of engines that hang, to be told
  std::unique_ptr<PressureFeed> pressure_;  // set when the fleet is
  bool draining_ = false;
  bool stopping_ = false;

  std::vector<std::unique_ptr<EngineSink>> sinks_;
  std::unique_ptr<EngineFleet> fleet_;  // last: its threads use all above
};

}  // namespace gimbal::engine
