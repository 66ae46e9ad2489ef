#pragma once

#include <cstdint>
#include <string_view>

namespace gimbal::sim {

// How a request ended.
enum class RequestEnd : std::uint8_t {
  kNone,       // not yet, or never
  kCompleted,  // with all its tokens
  kTooLong,    // longer than the engines' max_model_len
  kRefused,    // every queue was full
  kFailed,     // its engine failed after it had said something, or no engine was left
  kCancelled,
};
inline constexpr int kRequestEnds = 6;
[[nodiscard]] std::string_view to_string(RequestEnd end);

}  // namespace gimbal::sim
