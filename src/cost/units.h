#pragma once

// Milliseconds of what profiles are written in.
namespace gimbal::cost {

inline constexpr double kMsOfUs = 1e-3;
inline constexpr double kMsOfGb = 1e-6;     // ms = bytes / (GB/s) · this
inline constexpr double kMsOfTflop = 1e-9;  // ms = flops / (TFLOP/s) · this

}  // namespace gimbal::cost
