#pragma once

#include <cstdint>

#include "base/clock.h"
#include "base/trace.h"
#include "sched/expert_queues.h"

namespace gimbal::engine {

// Draws an expert service in a trace: on one line its runs, on another how long the rows of each
// had waited. Without a trace each call is one branch. Thread-compatible; owned by the service.
class ExpertTrace {
 public:
  // Lines of a process of the trace, which must outlive this.
  void set(Trace& trace, std::int32_t process);
  // A run has ended. Draws it, and for each of its layers one span from when the row was posted
  // that waited longest until the run began: time in the mailbox and in a hold counts. mean_ms is
  // the mean over the layer's expert queues, of each the row that waited longest.
  void ran(const sched::ExpertRun& run, TimePoint started, TimePoint ended) {
    if (trace_ != nullptr) draw(run, started, ended);
  }

 private:
  void draw(const sched::ExpertRun& run, TimePoint started, TimePoint ended);

  Trace* trace_ = nullptr;
  TraceTrack runs_track_;
  TraceTrack queues_track_;
  std::uint64_t spans_ = 0;
};

}  // namespace gimbal::engine
