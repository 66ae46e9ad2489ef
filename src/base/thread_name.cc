#include "base/thread_name.h"

#include <pthread.h>

#include <cstddef>

namespace gimbal {

void name_thread(const std::string& name) {
  constexpr std::size_t kMostBytes = 15;
  pthread_setname_np(pthread_self(), name.substr(0, kMostBytes).c_str());
}

}  // namespace gimbal
