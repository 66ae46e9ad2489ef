#pragma once

#include <string_view>

namespace gimbal {

// The line, from 1, on which a value stands in a JSON text, for errors about files. `path` is a
// place as JsonObject writes it: "groups[1].speed"; of an object's field, the line of its name.
// What is not there: the line of the innermost value on the way that is. Names that hold '.' or '['
// are not found. Requires: a valid JSON text.
[[nodiscard]] int json_line(std::string_view text, std::string_view path);

}  // namespace gimbal
