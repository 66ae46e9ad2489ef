#pragma once

#include <string>
#include <string_view>

namespace gimbal::server {

// Appends `text` as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD, so the
// document is valid for any input.
void append_json_string(std::string& out, std::string_view text);

}  // namespace gimbal::server
