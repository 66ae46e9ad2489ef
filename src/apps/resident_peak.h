#pragma once

#include <malloc.h>

#include <fstream>
#include <string>

namespace gimbal::apps {

// The most resident memory of this process since the last call of reset, in bytes; 0 where the
// system does not say.
class ResidentPeak {
 public:
  static void reset() {
    malloc_trim(0);  // what was freed before is not of what follows
    std::ofstream("/proc/self/clear_refs") << "5";
  }
  static double bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) * 1024.0;
    }
    return 0.0;
  }
};

}  // namespace gimbal::apps
