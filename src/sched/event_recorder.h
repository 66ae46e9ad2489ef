#pragma once

#include <iosfwd>
#include <span>

#include "base/clock.h"
#include "policy/gang_planner.h"
#include "sched/batch_executor.h"
#include "sched/event.h"
#include "sched/step_loop_options.h"

namespace gimbal::sched {

// Writes what a StepLoop is told and what it decides, one JSON object a line: a header with the
// options, then for each call its events, and after them the plans and other commands that they led
// to, and where requests were queued (with StepLoopOptions::report_order). Logprobs are left out:
// no decision depends on them. See replay.h for the way back. One thread. Refers to the stream,
// whose errors are the owner's to check.
class EventRecorder {
 public:
  explicit EventRecorder(std::ostream& out) : out_(out) {}

  void header(const StepLoopOptions& options, int layers);
  void events(TimePoint now, std::span<const Event> events);
  void intent(const policy::GangMember& intent);
  void order(const OrderDecision& decision);
  void plan(const StepPlan& plan);
  void yielded(BatchId batch);
  void dropped(BatchId batch, std::span<const RequestId> sequences);

 private:
  std::ostream& out_;
};

}  // namespace gimbal::sched
