#pragma once

#include <iosfwd>
#include <memory>

#include "base/clock.h"
#include "base/function_ref.h"
#include "base/result.h"
#include "sched/batch_executor.h"
#include "sched/event.h"
#include "sched/record_json.h"
#include "sched/replay.h"

namespace gimbal::sched {

// What runs the batches while a record is replayed, and says whether the recorded answers are ones
// that it would have given. Calls come in the record's order.
class ReplayedEngine {
 public:
  virtual ~ReplayedEngine() = default;

  // For a StepLoop. It lives as long as the engine.
  virtual BatchExecutor& executor() = 0;
  // It is now that time, at which the next answers come.
  virtual void come_to(TimePoint now) = 0;
  // Whether the executor, with the orders that it has, could answer that now; it then has.
  virtual bool answer(const StageReached& event) = 0;
  virtual bool answer(const StepFinished& event) = 0;
  virtual bool answer(const StepFailed& event) = 0;
};

using MakeReplayedEngine = FunctionRef<std::unique_ptr<ReplayedEngine>(const RecordHeader&)>;

// Gives a fresh StepLoop, on the engine made for the header, the events of a record at their times,
// and compares what it decides with what was recorded, line by line. Errors as of replay().
[[nodiscard]] Result<ReplayReport> walk_record(std::istream& record, MakeReplayedEngine make);

}  // namespace gimbal::sched
