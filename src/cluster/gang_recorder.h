#pragma once

#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/gang_coordinator.h"
#include "cluster/gang_event.h"
#include "policy/gang_planner.h"

namespace gimbal::cluster {

// What makes a coordinator.
struct GangRules {
  GangCoordinatorOptions coordinator;
  std::string planner = "pairing";
  policy::GangPlannerOptions planner_options;
};

// Writes what a GangCoordinator is told, and what it commands, as JSON lines: a header with its
// rules, then each event with its time and its commands. One thread at a time: the coordinator's.
// Refers to the stream, which must outlive it.
class GangRecorder {
 public:
  explicit GangRecorder(std::ostream& out) : out_(out) {}

  void header(const GangRules& rules);
  void event(const GangEvent& event, TimePoint now, std::span<const GangCommand> commands);

 private:
  std::ostream& out_;
};

struct GangReplay {
  std::uint64_t events = 0;
  std::uint64_t commands = 0;
};

// Makes a coordinator as the record's header says, tells it the record's events at their times, and
// compares what it commands with what the record says. kInvalidArgument: a line that is no such
// record or could not have come about, or commands that differ; it names the line. A record that
// was cut off in its last line is replayed as far as it goes.
[[nodiscard]] Result<GangReplay> replay_gang(std::istream& in);

}  // namespace gimbal::cluster
