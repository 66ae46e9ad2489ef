#pragma once

#include <iosfwd>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "cluster/dispatcher.h"

namespace gimbal::cluster {

// Writes what a Dispatcher is told, and what it decides, as JSON lines: a header with its options,
// then each call. One thread: the dispatcher's. Refers to the stream, which must outlive it.
class DispatchRecorder {
 public:
  explicit DispatchRecorder(std::ostream& out) : out_(out) {}

  void header(const DispatcherOptions& options);
  void snapshot(EngineId engine, const EngineSnapshot& snapshot);
  void prefix(EngineId engine, std::span<const kv::PrefixEvent> events);
  void expert_pressure(EngineId engine, std::optional<double> pressure);
  void expert_map(EngineId engine, std::uint64_t fingerprint);
  void expert_rows(RequestId request, const ExpertRows& rows);
  void health(EngineId engine, bool healthy, TimePoint now);
  void first_token(RequestId request);
  void end(RequestId request);
  void submit(const std::vector<sched::Request>& group, TimePoint now);
  void next(TimePoint now);
  void give_back(const Dispatched& dispatched);
  void cancel(RequestId request);
  void decision(const DecisionRecord& record);
  void order(TimePoint now, const sched::OrderDecision& decision);

 private:
  std::ostream& out_;
};

struct DispatchReplay {
  std::uint64_t calls = 0;
  std::uint64_t decisions = 0;
  std::uint64_t orders = 0;  // of the queue of late binding
};

// Makes a dispatcher as the record's header says, tells it the record's calls, and compares what it
// decides with what the record says, field by field. Errors: a line that is no such record, by its
// number; a decision that differs, or is missing.
[[nodiscard]] Result<DispatchReplay> replay_dispatch(std::istream& in);

}  // namespace gimbal::cluster
