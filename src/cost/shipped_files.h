#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace gimbal::cost {

// A file of src/cost/data that is part of the program, so that its name works from anywhere.
struct ShippedFile {
  std::string_view name;  // without folder and ".json"
  std::string_view text;
};

// In the order of src/cost/CMakeLists.txt, which writes them into the program.
[[nodiscard]] std::span<const ShippedFile> shipped_model_files();    // config.json files
[[nodiscard]] std::span<const ShippedFile> shipped_profile_files();  // hardware profiles

[[nodiscard]] std::optional<std::string_view> find_shipped(std::span<const ShippedFile> files,
                                                           std::string_view name);
[[nodiscard]] std::vector<std::string_view> names_of(std::span<const ShippedFile> files);

}  // namespace gimbal::cost
