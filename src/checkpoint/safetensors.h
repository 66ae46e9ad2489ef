#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/file_handle.h"
#include "checkpoint/safetensors_dtype.h"

namespace gimbal::checkpoint {

// The header's bound of the format, in bytes.
inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

// Where one tensor's elements stand in a safetensors file: row-major, little-endian.
struct TensorEntry {
  std::string name;
  StoredType type;
  std::vector<std::int64_t> shape;  // dimensions >= 0
  std::uint64_t offset = 0;         // from the start of the file
  std::uint64_t bytes = 0;
};

struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  // by offset: each begins where the one before ends
  std::map<std::string, std::string> metadata;
  std::uint64_t data_offset = 0;  // where the first tensor begins
};

// The first 8 bytes of a file of `file_size` bytes: how long the JSON header after them is.
[[nodiscard]] Result<std::uint64_t> parse_header_length(std::span<const std::byte, 8> bytes,
                                                        std::uint64_t file_size);

// The JSON header. Held to the format's rules: known types, sizes that follow from the shapes, each
// name once, and data that covers the rest of the file without holes or overlaps. Errors name the
// tensor and the value. Requires: 8 + json.size() <= file_size.
[[nodiscard]] Result<SafetensorsHeader> parse_header(std::string_view json,
                                                     std::uint64_t file_size);

// Both of the above, for a file that is in memory.
[[nodiscard]] Result<SafetensorsHeader> parse_safetensors(std::span<const std::byte> file);

// An open safetensors file with its header checked. Move-only; thread-safe once open.
class SafetensorsFile {
 public:
  // Errors name the file.
  [[nodiscard]] static Result<SafetensorsFile> open(const std::string& path);

  [[nodiscard]] const std::string& path() const { return file_.path(); }
  [[nodiscard]] const SafetensorsHeader& header() const { return header_; }

  // Fills `out` with the tensor's bytes from `begin` on, by pread: any number of threads at once.
  // Requires: `tensor` is of this file, begin + out.size() <= tensor.bytes. Errors name file and
  // tensor; a file that has become shorter is one.
  [[nodiscard]] Result<void> read(const TensorEntry& tensor, std::uint64_t begin,
                                  std::span<std::byte> out) const;

 private:
  SafetensorsFile(FileHandle file, SafetensorsHeader header);

  FileHandle file_;
  SafetensorsHeader header_;
};

// "[32000, 4096]".
[[nodiscard]] std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace gimbal::checkpoint
