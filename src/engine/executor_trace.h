#pragma once

#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/trace.h"
#include "engine/executor_batch.h"

namespace gimbal::engine {

// Draws an executor's batches in a trace: on one line the batch, its layers and their stages, one
// inside the other. Without a trace each call is one branch. One thread: the executor's.
class ExecutorTrace {
 public:
  void set(Trace* trace, TraceTrack track) {
    trace_ = trace;
    track_ = track;
  }

  void stage(const ExecutorBatch& batch, Cursor cursor, TimePoint start, TimePoint end) {
    if (trace_ == nullptr) return;
    constexpr std::string_view kNames[] = {"attention", "router", "experts"};
    const auto layer = static_cast<double>(cursor.layer.value());
    if (cursor.stage == Stage::kAttention) layer_started_ = start;
    trace_->complete(track_, kNames[static_cast<std::size_t>(cursor.stage)], start, end,
                     {{"layer", layer}});
    if (cursor.stage != Stage::kExperts) return;
    trace_->complete(track_, "layer", layer_started_, end,
                     {{"layer", layer}, {"rows", static_cast<double>(batch.rows.rows())}});
  }
  void finished(const ExecutorBatch& batch, TimePoint end) {
    if (trace_ == nullptr) return;
    trace_->complete(track_, batch.gang_step == sched::kSolo ? "batch" : "gang batch",
                     batch.started, end,
                     {{"rows", static_cast<double>(batch.rows.rows())},
                      {"sequences", static_cast<double>(batch.sequences.size())},
                      {"gang_step", static_cast<double>(batch.gang_step)}});
  }

 private:
  Trace* trace_ = nullptr;
  TraceTrack track_;
  TimePoint layer_started_{};
};

}  // namespace gimbal::engine
