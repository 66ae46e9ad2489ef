#pragma once

#include <span>
#include <string_view>

namespace gimbal::live {

// The small fixed text that a simulated model says over and over, by sentence; plain ASCII, each
// sentence with the space or line ends that follow it.
[[nodiscard]] std::span<const std::string_view> stock_sentences();

}  // namespace gimbal::live
