#pragma once

#include <chrono>
#include <cstdint>

namespace gimbal {

using Duration = std::chrono::nanoseconds;

// The type tag of the project's time line. Its zero is arbitrary, but one per process or
// simulation.
struct TimeLine {
  using rep = Duration::rep;
  using period = Duration::period;
  using duration = Duration;
  using time_point = std::chrono::time_point<TimeLine, Duration>;
  static constexpr bool is_steady = true;
};
using TimePoint = TimeLine::time_point;

[[nodiscard]] constexpr double to_ms(Duration duration) {
  return static_cast<double>(duration.count()) * 1e-6;
}
[[nodiscard]] constexpr double to_seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}
[[nodiscard]] constexpr Duration from_ms(double ms) {
  return Duration{static_cast<Duration::rep>(ms * 1e6)};
}

// Where the state machines read time: once per event. Thread rule: see each implementation.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimePoint now() const = 0;
};

// The machine's monotonic clock. Thread-safe.
class SteadyClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override;
};

// A clock that stands still until it is told otherwise: tests and the simulator. One thread.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return now_; }
  void advance(Duration by) { now_ += by; }
  // Requires: time not before now().
  void set(TimePoint time);

 private:
  TimePoint now_{};
};

}  // namespace gimbal
