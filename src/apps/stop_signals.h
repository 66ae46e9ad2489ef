#pragma once

#include <atomic>

namespace gimbal::apps {

// From now on the first SIGINT or SIGTERM sets the flag that is returned, so that a command can end
// with what there is; a second one ends the program. The flag lives as long as the program.
[[nodiscard]] const std::atomic<bool>& watch_stop_signals();

}  // namespace gimbal::apps
