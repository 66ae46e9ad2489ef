#pragma once

#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/gang_coordinator.h"
#include "cluster/gang_rank.h"
#include "cluster/gang_recorder.h"
#include "policy/gang_planner.h"

namespace gimbal::engine {

struct GangDriverOptions {
  cluster::GangCoordinatorOptions coordinator;
  std::string planner = "pairing";
  policy::GangPlannerOptions planner_options;
  // Writes what the coordinator is told, and what it commands, to this file; empty: no recording.
  std::string record_path;
};

// Brings the ranks of a group and their coordinator together: one lock around the state machine,
// answers put before the ranks at once. Thread-safe. The clock must outlive it, and it the ranks.
class GangDriver {
 public:
  // Takes a rank's answers, on the thread of whichever rank brought them about, under a lock: must
  // not wait or call back.
  using Receiver = std::function<void(const cluster::GangAnswer&)>;

  // An unknown planner or an option out of range is kInvalidArgument; kIo: the record cannot be
  // made.
  [[nodiscard]] static Result<std::unique_ptr<GangDriver>> make(const GangDriverOptions& options,
                                                                const Clock& clock);

  void attach(Rank rank, Receiver receiver);
  // After this nothing is put before the rank any more.
  void detach(Rank rank);

  void tell(const cluster::GangEvent& event);
  // Carries out the coordinator's timer if its time has come. How long it is until then; nullopt:
  // there is none. Whoever waits for an answer calls this.
  [[nodiscard]] std::optional<Duration> keep_time();

  [[nodiscard]] cluster::GangPace pace() const { return options_.coordinator.pace; }
  [[nodiscard]] cluster::GangCounters counters() const;

 private:
  GangDriver(const GangDriverOptions& options, std::unique_ptr<policy::GangPlanner> planner,
             const Clock& clock);
  void handle(const cluster::GangEvent& event);
  void carry_out(const cluster::GangStart& command);
  void carry_out(const cluster::GangSolo& command);
  void carry_out(const cluster::GangWake& command);

  GangDriverOptions options_;
  std::unique_ptr<policy::GangPlanner> planner_;
  const Clock& clock_;
  mutable std::mutex mutex_;  // guards the rest
  cluster::GangCoordinator coordinator_;
  std::vector<cluster::GangCommand> commands_;
  std::vector<Receiver> receivers_;
  std::optional<TimePoint> wake_;
  std::ofstream record_;
  std::optional<cluster::GangRecorder> recorder_;
};

}  // namespace gimbal::engine
