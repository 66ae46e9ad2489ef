#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace gimbal {

// A new, empty folder under the system's temporary one that no other process has; gone with the
// object.
class TemporaryFolder {
 public:
  // Where none can be made: an error that names what was tried.
  [[nodiscard]] static Result<std::unique_ptr<TemporaryFolder>> make();
  // For tests: aborts there.
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] std::string path() const { return path_.string(); }
  // Where `name` is, or would be, in it.
  [[nodiscard]] std::string path(std::string_view name) const { return (path_ / name).string(); }
  // For tests: writes `content` to the file `name`, over what it held, and returns its path. Aborts
  // where that fails.
  std::string write(std::string_view name, std::string_view content) const;

 private:
  explicit TemporaryFolder(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;
};

}  // namespace gimbal
