#pragma once

#include <CLI/CLI.hpp>

namespace gimbal::apps {

// Checks of an option's number, in place of CLI11's: what they say holds numbers as people write
// them, not in 309 digits, and they refuse what is no finite number ("nan").
[[nodiscard]] CLI::Validator at_least_zero();
[[nodiscard]] CLI::Validator above_zero();
// Both ends belong to it.
[[nodiscard]] CLI::Validator number_range(double low, double high);
// 0, which turns something off, or that.
[[nodiscard]] CLI::Validator zero_or_range(double low, double high);

}  // namespace gimbal::apps
