#include "engine/expert_trace.h"

#include <algorithm>
#include <cstddef>

namespace gimbal::engine {

void ExpertTrace::set(Trace& trace, std::int32_t process) {
  trace_ = &trace;
  runs_track_ = trace.add_track(process, "runs");
  queues_track_ = trace.add_track(process, "queues");
}

void ExpertTrace::draw(const sched::ExpertRun& run, TimePoint started, TimePoint ended) {
  trace_->complete(runs_track_, "run", started, ended,
                   {{"rows", static_cast<double>(run.entries.size())},
                    {"experts", static_cast<double>(run.groups.size())}});
  for (std::size_t begin = 0; begin < run.groups.size();) {
    const LayerIndex layer = run.groups[begin].layer;
    TimePoint oldest = started;
    Duration waited{};
    int rows = 0;
    std::size_t end = begin;
    for (; end < run.groups.size() && run.groups[end].layer == layer; ++end) {
      oldest = std::min(oldest, run.groups[end].oldest);
      waited += started - run.groups[end].oldest;
      rows += run.groups[end].count;
    }
    const auto queues = static_cast<double>(end - begin);
    // Rows come while others run: the waits of two runs overlap, so these are spans.
    trace_->begin_span(queues_track_, "queue", ++spans_, "queue", oldest,
                       {{"layer", static_cast<double>(layer.value())},
                        {"queues", queues},
                        {"rows", static_cast<double>(rows)},
                        {"mean_ms", to_ms(waited) / queues}});
    trace_->end_span(queues_track_, "queue", spans_, "queue", started);
    begin = end;
  }
}

}  // namespace gimbal::engine
