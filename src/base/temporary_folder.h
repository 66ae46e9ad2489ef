#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace gimbal {

// A new, empty folder under the system's temporary one that no other process has; gone with the
// object.
class TemporaryFolder {
 public:
  // Aborts where no folder can be made.
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] std::string path() const { return path_.string(); }
  // Where `name` is, or would be, in it.
  [[nodiscard]] std::string path(std::string_view name) const { return (path_ / name).string(); }
  // Writes `content` to the file `name`, over what it held, and returns its path. Aborts where that
  // fails.
  std::string write(std::string_view name, std::string_view content) const;

 private:
  std::filesystem::path path_;
};

}  // namespace gimbal
