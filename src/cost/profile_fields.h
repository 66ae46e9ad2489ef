#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "cost/hardware_profile.h"

namespace gimbal::cost {

// One number of a profile: where it stands in the JSON and in the struct, and what it may be.
struct ProfileField {
  std::string_view section;     // "attention", "" for the root
  std::string_view subsection;  // "projections", "" for none
  std::string_view name;        // with its unit
  double low = 0;
  double high = 0;
  std::reference_wrapper<double> value;
};

// Every number but experts.bytes_per_parameter, in the order of the JSON, sections side by side.
[[nodiscard]] std::vector<ProfileField> fields_of(HardwareProfile& profile);

}  // namespace gimbal::cost
