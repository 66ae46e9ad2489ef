#pragma once

#include <functional>
#include <thread>

#include "base/clock.h"

namespace gimbal::apps {

// Ends a process that cannot end: a thread that hangs is never joined, and may hold any lock. Owned
// by who ends the process. One thread.
class EndWatch {
 public:
  EndWatch() = default;
  ~EndWatch();  // all has ended by itself
  EndWatch(const EndWatch&) = delete;
  EndWatch& operator=(const EndWatch&) = delete;

  // Unless this is destroyed or armed again within `limit`, `last_words` runs on another thread,
  // for a second at most, and the process ends with exit code 0.
  void arm(Duration limit, std::function<void()> last_words);

 private:
  std::jthread thread_;
};

}  // namespace gimbal::apps
