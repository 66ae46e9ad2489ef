#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "cluster/gang_coordinator.h"
#include "cluster/gang_event.h"
#include "policy/gang_planner.h"
#include "sched/event.h"

namespace gimbal::cluster {

// What a rank is told: to start a step, together with others or alone, or a step without sequences.
struct GangAnswer {
  std::uint64_t number = 0;
  RankSet members = 0;        // 0: solo
  std::optional<int> budget;  // prefill rows; nullopt: as the rank's former wants
  bool dummy = false;         // unless the rank has work by now
  double expected_ms = 0;     // of the step; 0: not known
  Duration hold_limit{};      // of the gang step's posts at services; 0: none

  bool operator==(const GangAnswer&) const = default;
};
[[nodiscard]] GangAnswer answer_of(const GangStart& command, GangPace pace);
[[nodiscard]] GangAnswer answer_of(const GangSolo& command);

// What a rank has to do next. Reused, so that nothing allocates once it has grown.
struct GangOrders {
  std::optional<sched::StartStep> start;  // for its scheduler
  std::optional<GangAnswer> dummy;        // run that step without sequences
  std::optional<GangAnswer> leave;        // tell the services that it posts nothing of that step
  std::vector<GangEvent> events;          // for the coordinator, in order
};

// A rank's side of the gang protocol (see gang_event.h): between its scheduler and the group's
// coordinator. A state machine without threads or clock; every call overwrites `orders`. One
// thread; owned by who drives the rank.
class GangRank {
 public:
  explicit GangRank(Rank rank) : rank_(rank) {}

  // The coordinator's answer has come.
  void follow(const GangAnswer& answer, GangOrders& orders);
  // The scheduler has said this of steps.
  void said(const sched::Outputs& outputs, GangOrders& orders);
  // The step without sequences has ended. Requires: one runs.
  void dummy_ended(GangOrders& orders);

  [[nodiscard]] Rank rank() const { return rank_; }
  [[nodiscard]] bool asking() const { return asking_; }  // an intent has no answer
  [[nodiscard]] bool in_dummy() const { return dummy_.has_value(); }

 private:
  static void clear(GangOrders& orders);
  void tell_intent(const policy::GangMember& member, GangOrders& orders);

  Rank rank_;
  bool asking_ = false;
  std::uint64_t last_seen_ = 0;                  // the highest number of an answer
  std::optional<std::uint64_t> dummy_;           // the step that runs without sequences
  std::optional<policy::GangMember> held_back_;  // an intent that came during it
};

}  // namespace gimbal::cluster
