#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/engine.h"
#include "cluster/inspector.h"
#include "live/live_book.h"
#include "live/live_experts.h"
#include "sim/serving_cluster.h"

namespace gimbal::live {

inline constexpr double kMostTimeScale = 1000;  // virtual time lasts for 106 days

struct LiveOptions {
  sim::SimulatedClusterOptions cluster;
  double time_scale = 1;  // virtual seconds in a second of the clock; (0, kMostTimeScale]
  AnswerText text;
};

// A simulated cluster as an engine that serves: virtual time goes with a clock, scaled, from the
// making on. What is submitted arrives at the virtual time of that moment, whenever it is taken
// up, and outputs are told when their time has come. Where the simulation cannot keep up, they come
// late, and virtual times stay what they would have been.
//
// Everything happens in advance(): start() has a thread call it when something is due, or a test
// calls it with a clock of its own. Refusals come as outputs (TokenOutput::refused), because the
// dispatcher is asked there.
//
// Thread-safe, as cluster::Engine is, but for advance(). Outputs go to `sink` from advance().
class LiveEngine final : public cluster::Engine, public cluster::Inspector {
 public:
  // References, and what `options.cluster` refers to, must outlive it. Errors: as
  // ServingCluster::make; a time scale out of range.
  [[nodiscard]] static Result<std::unique_ptr<LiveEngine>> make(LiveOptions options,
                                                                const Clock& clock,
                                                                cluster::TokenSink& sink);
  ~LiveEngine() override;  // ends every request with kCancelled
  LiveEngine(const LiveEngine&) = delete;
  LiveEngine& operator=(const LiveEngine&) = delete;

  // Starts the thread. Requires: once; the clock is a SteadyClock.
  void start();
  // Handles what is due by now. Returns when the next event is; nullopt: nothing happens until
  // something is submitted. One thread, and only without start().
  std::optional<TimePoint> advance();

  // Beside the errors of Engine: kUnsupported for log probabilities. Without kResourceExhausted.
  Result<void> submit(std::vector<sched::Request> group) override;
  void cancel(RequestId request) override;
  // The sums of the engines' snapshots and of what waits for one; counters and tokens of the
  // simulation, rates by the clock.
  [[nodiscard]] cluster::EngineSnapshot snapshot() const override;
  [[nodiscard]] const cluster::EngineLimits& limits() const override { return limits_; }
  // While an engine takes requests.
  [[nodiscard]] bool healthy(std::string* why) const override;

  // Times in these are virtual.
  [[nodiscard]] std::vector<cluster::EngineStatus> engine_status() const override;
  [[nodiscard]] cluster::ExpertInspector* experts() const override { return experts_.get(); }
  [[nodiscard]] cluster::DispatchStatus dispatch_status() const override;
  [[nodiscard]] std::vector<cluster::DecisionRecord> decisions_of(RequestId request) const override;
  [[nodiscard]] std::vector<cluster::DecisionRecord> last_decisions(
      std::size_t most) const override;

  // Accepts nothing from now on; what was accepted goes on.
  void drain();

 private:
  // What was asked for, and when in virtual time.
  struct Call {
    TimePoint time{};
    std::variant<std::vector<sched::Request>, RequestId> what;  // a group, or what to cancel
  };

  LiveEngine(LiveOptions options, const Clock& clock, cluster::TokenSink& sink);
  [[nodiscard]] Result<void> check(const sched::Request& request) const;
  [[nodiscard]] TimePoint virtual_now() const;
  [[nodiscard]] TimePoint clock_time(TimePoint virtual_time) const;
  void work();
  void run_to(TimePoint virtual_time);
  void carry_out(Call& call);
  void note_lag(TimePoint target);

  const double time_scale_;
  const Clock& clock_;
  const TimePoint started_;
  cluster::TokenSink& sink_;
  cluster::EngineLimits limits_;
  TimePoint warned_{};  // of a lag; advance()'s own

  mutable std::mutex mutex_;  // guards the simulation: book_, cluster_
  LiveBook book_;
  std::unique_ptr<sim::ServingCluster> cluster_;
  std::unique_ptr<LiveExperts> experts_;

  std::mutex inbox_mutex_;  // guards inbox_, draining_
  std::vector<Call> inbox_;
  bool draining_ = false;
  std::condition_variable wake_;
  std::atomic<bool> stopping_{false};  // written under inbox_mutex_
  std::thread thread_;
};

}  // namespace gimbal::live
