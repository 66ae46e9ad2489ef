#pragma once

#include <string>

#include "base/result.h"

namespace gimbal {
class JsonObject;
}

namespace gimbal::server {

// Reads the field `messages` of a chat request and returns it as a JSON list in which every
// content is a string: text parts are joined by line ends, "developer" becomes "system". Images,
// audio, files and tool calls are kUnsupported; errors name the place
// (messages[2].content[0].type).
[[nodiscard]] Result<std::string> read_messages(JsonObject& request);

}  // namespace gimbal::server
