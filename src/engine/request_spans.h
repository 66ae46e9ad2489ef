#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>

#include "base/clock.h"
#include "base/trace.h"
#include "cluster/engine.h"
#include "sched/event.h"

namespace gimbal::engine {

// Draws the life of each request of one engine in a trace: queued, prefill, decode; queued and
// prefill again after an eviction. What a StepLoop says at one time is to be told in this order:
// arrived, told, evicted, admitted. One thread: the engine's. The trace must outlive it.
class RequestSpans {
 public:
  RequestSpans(Trace& trace, TraceTrack track) : trace_(trace), track_(track) {}

  void arrived(std::span<const sched::Event> events, TimePoint now);
  void told(std::span<const cluster::TokenOutput> outputs, TimePoint now);
  void evicted(std::span<const RequestId> requests, TimePoint now);
  void admitted(std::span<const RequestId> requests, TimePoint now);
  // The engine has ended: another may draw the same requests from now on.
  void end_all(TimePoint now);

 private:
  // From the phase that the request is in to this one.
  void change(RequestId request, std::string_view phase, TimePoint now);
  void begin(RequestId request, std::string_view phase, TimePoint now);
  void end(RequestId request, TimePoint now);

  Trace& trace_;
  TraceTrack track_;
  std::unordered_map<RequestId, std::string_view> phases_;  // of those that have not ended
};

}  // namespace gimbal::engine
