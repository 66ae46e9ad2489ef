#pragma once

#include <string_view>

namespace gimbal::loadgen {

// What reading and writing HTTP fields share.
[[nodiscard]] bool equal_ignoring_case(std::string_view a, std::string_view b);  // ASCII
[[nodiscard]] std::string_view trimmed(std::string_view text);  // of spaces and tabs at both ends

}  // namespace gimbal::loadgen
