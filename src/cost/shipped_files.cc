#include "cost/shipped_files.h"

#include <algorithm>

namespace gimbal::cost {

std::optional<std::string_view> find_shipped(std::span<const ShippedFile> files,
                                             std::string_view name) {
  const auto found = std::ranges::find(files, name, &ShippedFile::name);
  if (found == files.end()) return std::nullopt;
  return found->text;
}

std::vector<std::string_view> names_of(std::span<const ShippedFile> files) {
  std::vector<std::string_view> names;
  for (const ShippedFile& file : files)
    names.push_back(file.name);
  return names;
}

}  // namespace gimbal::cost
