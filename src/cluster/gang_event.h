#pragma once

#include <cstdint>
#include <string_view>
#include <variant>

#include "base/clock.h"
#include "base/ids.h"
#include "policy/gang_planner.h"
#include "sched/gang_holds.h"

namespace gimbal::cluster {

using sched::RankSet;

// What passes between ranks and their GangCoordinator. Every answer to a rank (GangStart, GangSolo)
// has a number, higher than all before it; a rank has at most one intent that is not answered, and
// every intent gets one answer, unless the rank takes it back. Messages of one rank arrive in the
// order in which they were sent; so do answers to one rank.

// Why a rank goes on without its gang in mid-step.
enum class LeaveReason : std::uint8_t {
  kSuspended,  // its batch is parked
  kSplit,      // sequences were split off, and this batch is theirs
  kLate,       // it missed the deadline of a hold
  kNoWork,     // all its sequences are gone, or it had no work when the start came
  kFailed,
};
inline constexpr int kLeaveReasons = 5;

// Why a rank runs a step by itself.
enum class SoloReason : std::uint8_t {
  kImmediate,  // the pace: nobody ever waits
  kAlone,      // no other rank has work, or would be ready soon
  kDeadline,   // a rank that was waited for did not come in time
  kPlanned,    // the planner sent it off
};
inline constexpr int kSoloReasons = 4;

[[nodiscard]] std::string_view to_string(LeaveReason reason);
[[nodiscard]] std::string_view to_string(SoloReason reason);

// "I have work and stand at a step boundary." Sent again before the answer it replaces the former
// one. It ends the rank's former step, if no GangStepEnded did.
struct GangIntent {
  policy::GangMember member;
  // The highest number of an answer that the rank has seen, 0: none. If the coordinator has sent a
  // later one, the two crossed: that answer is the intent's, too.
  std::uint64_t last_seen = 0;
};
// The step of that number ended, gang step or solo. With work left, an intent follows at once.
struct GangStepEnded {
  Rank rank;
  std::uint64_t number = 0;
  bool has_work = true;
};
// The rank has left the gang step; its batch goes on solo, or with kNoWork there is none. kLate is
// said by those who waited, perhaps by several and when the step is over: it counts once.
struct GangLeft {
  Rank rank;
  std::uint64_t number = 0;
  LeaveReason reason = LeaveReason::kSuspended;
};
// The rank has no work any more; takes back an intent. Without effect if it crossed an answer: then
// the rank answers that, once it sees it, with GangLeft (kNoWork) or, to a solo, GangStepEnded.
struct GangIdle {
  Rank rank;
  std::uint64_t last_seen = 0;
};
// Final: all that the rank says later is ignored.
struct GangRankDead {
  Rank rank;
};
// The time of a GangWake has come. One too many does no harm.
struct GangTimer {};

using GangEvent =
    std::variant<GangIntent, GangStepEnded, GangLeft, GangIdle, GangRankDead, GangTimer>;

// To one member: run gang step `number` together with the others, which get the same numbers and
// sets. In pace lockstep a rank in `dummies` runs a step without sequences, unless it has some now.
struct GangStart {
  Rank rank;
  std::uint64_t number = 0;
  RankSet members = 0;     // bit r: rank r; at least two, this rank too
  RankSet dummies = 0;     // of them
  int budget = 0;          // prefill tokens of this rank at most
  double expected_ms = 0;  // of the step, from its start; 0: not known
  // How long a service holds posts of one of the step's layers for members that have not sent
  // theirs; 0: without limit.
  Duration hold_limit{};

  bool operator==(const GangStart&) const = default;
};
// To one rank: run a step by yourself, without holds.
struct GangSolo {
  Rank rank;
  std::uint64_t number = 0;
  SoloReason reason = SoloReason::kAlone;
  double expected_ms = 0;  // 0: not known

  bool operator==(const GangSolo&) const = default;
};
// To the driver: a GangTimer at that time; it replaces the one asked for before.
struct GangWake {
  TimePoint at{};

  bool operator==(const GangWake&) const = default;
};

using GangCommand = std::variant<GangStart, GangSolo, GangWake>;

}  // namespace gimbal::cluster
