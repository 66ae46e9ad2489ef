#pragma once

#include <string>

namespace gimbal {

// What tools that show threads (top -H, gdb, perf) call the calling thread; the system keeps the
// first 15 bytes. Thread-safe.
void name_thread(const std::string& name);

}  // namespace gimbal
