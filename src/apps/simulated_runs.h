#pragma once

#include <cstdint>
#include <memory>

#include "apps/reproduction.h"
#include "sim/testbed.h"

namespace gimbal::apps {

// Runs of a reproduction in the simulator, by the flags of `gimbal simulate`. One thread.
class SimulatedRuns {
 public:
  // The machines are made at the first call, and all calls must ask for the same.
  [[nodiscard]] Result<RunNumbers> run(const RunFlags& flags, std::uint64_t seed);

 private:
  std::unique_ptr<sim::Testbed> testbed_;
};

}  // namespace gimbal::apps
