#include "base/niceness.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/log.h"

namespace gimbal {
namespace {

constexpr int kNicest = 19;

void warn_once(int niceness, int error) {
  static std::once_flag warned;
  std::call_once(warned, [&] {
    log_warning("threads do not get niceness {}: {}", niceness, std::strerror(error));
  });
}

}  // namespace

bool be_nicer(int by) {
  if (by == 0) return true;
  errno = 0;  // -1 is a niceness too
  const int own = getpriority(PRIO_PROCESS, static_cast<id_t>(getpid()));
  if (own == -1 && errno != 0) {
    log_warning("the process's niceness is not known: {}", std::strerror(errno));
    return false;
  }
  const int wanted = std::min(own + by, kNicest);
  if (setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), wanted) == 0) return true;
  warn_once(wanted, errno);
  return false;
}

}  // namespace gimbal
