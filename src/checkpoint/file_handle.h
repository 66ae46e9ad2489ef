#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace gimbal::checkpoint {

// One open regular file, closed by the destructor. Move-only. Errors name the path.
class FileHandle {
 public:
  [[nodiscard]] static Result<FileHandle> open_to_read(const std::string& path);
  // Makes the file, or empties it where there is one.
  [[nodiscard]] static Result<FileHandle> create(const std::string& path);

  ~FileHandle();
  FileHandle(FileHandle&& other) noexcept;
  FileHandle& operator=(FileHandle&& other) noexcept;

  [[nodiscard]] const std::string& path() const { return path_; }
  // Size in bytes when it was opened.
  [[nodiscard]] std::uint64_t size() const { return size_; }

  // Fills `out` from byte `offset` on; a file that ends before is an error. Thread-safe.
  [[nodiscard]] Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const;
  // Writes all of `bytes` at the end. One thread.
  [[nodiscard]] Result<void> append(std::span<const std::byte> bytes);
  // Waits until what was written is on the disk.
  [[nodiscard]] Result<void> sync();

 private:
  FileHandle(std::string path, int descriptor, std::uint64_t size);

  std::string path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace gimbal::checkpoint
