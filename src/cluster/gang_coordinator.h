#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "cluster/gang_event.h"
#include "policy/gang_planner.h"

namespace gimbal::cluster {

// How ranks that share experts keep step (docs/design/0010).
enum class GangPace : std::uint8_t {
  kGang,       // ranks with work step together, for as long as that costs nobody much
  kLockstep,   // all ranks step together whenever one has work, with dummy steps
  kImmediate,  // each by itself
};

// "gang", "lockstep" or "immediate"; anything else is kInvalidArgument.
[[nodiscard]] Result<GangPace> parse_gang_pace(std::string_view name);

struct GangCoordinatorOptions {
  GangPace pace = GangPace::kGang;
  int ranks = 0;   // of the group; at most sched::kMostGangRanks
  int layers = 1;  // of the model, for the planner
  // How long a rank with an intent waits for others that the planner would have it step with, in
  // predicted steps of its own (the longer of what it asks for alone and of its last steps as they
  // were): for a rank whose step is predicted to end within `patience`, until it is late by
  // `grace`. Whoever goes on alone beside a long step slows it down and is out of phase afterwards.
  // Ranks whose step times are not fitted yet wait for one step at most.
  double patience = 8.0;  // >= 0
  double grace = 0.5;     // >= 0
  // Both are at least this long, for steps that are short or not known.
  Duration least_wait = std::chrono::milliseconds(1);  // >= 0
  // Instead of all these: until the step ends, however long. For ranks that share their workers,
  // where going ahead takes from the other's step what it gains.
  bool to_the_end = false;
  // Pace gang: how long services hold the posts of a layer for members that have not sent theirs,
  // from the first on, in expected steps, and at least. Who comes later runs that step's rest by
  // itself. 0: no limit, nor is there one where not all members' step times are fitted.
  double hold_steps = 1;  // >= 0
  Duration least_hold = std::chrono::milliseconds(50);
};

// Since the start. A rank's join is its part in one gang step.
struct GangCounters {
  std::uint64_t gang_steps = 0;
  std::uint64_t joins = 0;
  std::uint64_t dummies = 0;  // of the joins
  std::array<std::uint64_t, kLeaveReasons> leaves{};
  std::array<std::uint64_t, kSoloReasons> solos{};
  std::uint64_t waits = 0;      // answers to intents that had to wait
  Duration waited{};            // by them, in all
  std::uint64_t crossed = 0;    // intents that crossed their answer
  std::uint64_t withdrawn = 0;  // intents that were taken back
};

// Decides which ranks of an expert-parallel group step together, and when. It collects intents;
// once nobody is worth waiting for, those that have come are the members, the planner gives each
// its prefill budget, and whoever is left with nobody goes solo. Who comes later waits for the next
// step.
//
// Pace gang: waited for are ranks that run, in the gang or solo, will be ready soon (or at all: see
// the options), and would stay: those that the planner would part from the one that waits, by what
// both last wanted, are not. Ranks that have left their gang step are not, until they come back
// with an intent. Pace lockstep: all live ranks are waited for, however long; idle ones take part
// as dummies; the planner is not asked, budgets are wants. Pace immediate: every intent goes solo
// at once.
//
// No intent stays unanswered once every rank that is waited for has spoken, died, or its deadline
// has passed and the timer came.
//
// A state machine with one inbox: no thread, no clock, no calls out. O(ranks) an event, and the
// planner once a step; allocates nothing once its buffers have grown. One thread; owned by the
// driver of the group.
class GangCoordinator {
 public:
  // Requires: options in range. The planner must outlive it.
  GangCoordinator(const GangCoordinatorOptions& options, const policy::GangPlanner& planner);

  // Overwrites `commands`. Requires: time does not go back; ranks in range; numbers as answered.
  void on(const GangEvent& event, TimePoint now, std::vector<GangCommand>& commands);

  [[nodiscard]] const GangCounters& counters() const { return counters_; }

 private:
  enum class State : std::uint8_t {
    kIdle,     // no work that we know of
    kPending,  // an intent waits for its answer
    kRunning,  // answered; its step has not ended
    kBetween,  // its step has ended, its intent is to come
    kDead,
  };
  struct Member {
    State state = State::kIdle;
    bool left = false;         // running: it has left its gang step
    std::uint64_t number = 0;  // of the last answer
    TimePoint since{};         // pending: since the intent; running: since the answer
    TimePoint ready{};         // running, between: when its intent is expected
    double predicted_ms = 0;   // running: as the model says; 0: not known
    double measured_ms = 0;    // mean of its last steps; 0: none yet
    double slowness = 1;       // mean of measured to predicted times
    std::uint64_t late = 0;    // the last step in which it was late at a hold
    policy::GangMember intent;
    std::uint64_t intents = 0;  // that it has sent
    // The last answer of would_part about this one: to whom, and which intents it was about.
    const Member* asker = nullptr;
    std::uint64_t asker_intents = 0;
    std::uint64_t asked_intents = 0;
    bool parts = false;
  };

  void on_event(const GangIntent& event);
  void on_event(const GangStepEnded& event);
  void on_event(const GangLeft& event);
  void on_event(const GangIdle& event);
  void on_event(const GangRankDead& event);
  void on_event(const GangTimer& event);

  [[nodiscard]] Member& at(Rank rank);
  void note_end(Member& member);
  void settle();
  [[nodiscard]] const Member* first_pending() const;
  [[nodiscard]] double own_step_ms(const Member& member) const;
  [[nodiscard]] std::optional<TimePoint> deadline(const Member& first);
  [[nodiscard]] bool would_part(const Member& first, Member& other);
  [[nodiscard]] bool all_have_spoken() const;
  void wake_at(TimePoint time);
  void fix_members();
  void start_gang();
  [[nodiscard]] Duration hold_limit(double expected_ms) const;
  void start_rank(std::size_t index, const GangStart& common, int budget);
  void go_solo(std::size_t index, SoloReason reason);
  void answered(Member& member, std::uint64_t number, double predicted_ms, double expected_ms);

  GangCoordinatorOptions options_;
  const policy::GangPlanner& planner_;
  std::vector<Member> members_;  // by rank
  TimePoint now_{};              // of the event
  std::vector<GangCommand>* commands_ = nullptr;
  std::optional<TimePoint> wake_;  // asked for
  std::uint64_t last_number_ = 0;
  bool missed_ = false;  // somebody who was waited for did not come in time
  GangCounters counters_;
  std::vector<std::size_t> joining_;         // work space: ranks, and
  std::vector<policy::GangMember> intents_;  // their intents
  policy::GangPlan plan_;
  std::array<policy::GangMember, 2> pair_;  // of would_part
  policy::GangPlan pair_plan_;
};

}  // namespace gimbal::cluster
