#pragma once

#include <string>

#include "base/result.h"

namespace gimbal::apps {

// The folder of the demo model of this version, in the user's cache (XDG_CACHE_HOME, HOME/.cache or
// the temporary folder). Makes the model if it is not there; several processes that begin at once
// make it once, and the others wait. Errors name the path.
[[nodiscard]] Result<std::string> ensure_demo_model();

}  // namespace gimbal::apps
