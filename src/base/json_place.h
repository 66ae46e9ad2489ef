#pragma once

#include <cstddef>
#include <string_view>

namespace gimbal {

// The line, from 1, on which a value stands in a JSON text, for errors about files. `path` is a
// place as JsonObject writes it: "groups[1].speed"; of an object's field, the line of its name.
// What is not there: the line of the innermost value on the way that is. Names that hold '.' or '['
// are not found. Requires: a valid JSON text.
[[nodiscard]] int json_line(std::string_view text, std::string_view path);

// Where the value itself begins, by the same rules. Of names that an object has twice the last
// counts, as it does for whoever takes the value.
struct JsonPlace {
  int line = 1;            // from 1
  std::size_t column = 1;  // from 1, in bytes
};
[[nodiscard]] JsonPlace json_place(std::string_view text, std::string_view path);

// The byte, from 1, of the first bracket that opens a value nested deeper than `depth` levels; 0:
// there is none. Any text.
[[nodiscard]] std::size_t json_byte_deeper_than(std::string_view text, std::size_t depth);

}  // namespace gimbal
