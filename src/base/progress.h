#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"

namespace gimbal {

// A progress bar on stderr for long work; prints nothing when stderr is not a terminal.
// One thread. The bar's line is ended by finish() or the destructor.
class Progress {
 public:
  // `unit` names what is counted ("bytes" is shown in MB).
  Progress(std::string title, std::string unit, std::uint64_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Sets how much is done; redraws at most ten times a second.
  void update(std::uint64_t done);
  void finish();

 private:
  void draw();

  std::string title_;
  std::string unit_;
  std::uint64_t total_;
  std::uint64_t done_ = 0;
  bool visible_;
  SteadyClock clock_;
  TimePoint started_;
  TimePoint drawn_{};
};

}  // namespace gimbal
