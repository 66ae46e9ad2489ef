#pragma once

#include <cstdint>

#include "base/clock.h"
#include "cluster/engine.h"
#include "sched/step_loop.h"

namespace gimbal::cluster {

class Dispatcher;

// What a snapshot says beside what the scheduler counts.
struct SnapshotStamp {
  std::uint64_t sequence = 0;  // of the engine's snapshots
  TimePoint taken{};           // when the scheduler's state came about
  std::uint64_t expert_rows = 0;
  std::uint64_t distinct_experts = 0;
};

// What an engine with this scheduler publishes of itself now. O(running sequences, waiting ones of
// its queue profiles).
[[nodiscard]] EngineSnapshot snapshot_of(const sched::StepLoop& loop, const SnapshotStamp& stamp);

// The next snapshot of an engine that has ended: what it had counted, without the work that it
// held.
[[nodiscard]] EngineSnapshot without_work(const EngineSnapshot& last);

// Adds what can be added: counts and rates, and of the rest what is the same for all engines.
void add_snapshot(EngineSnapshot& sum, const EngineSnapshot& each);
// Adds what waits for an engine in the dispatcher's queue.
void add_queued(EngineSnapshot& sum, const Dispatcher& dispatcher);

}  // namespace gimbal::cluster
