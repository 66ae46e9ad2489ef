#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "checkpoint/safetensors.h"
#include "tensor/dtype.h"

namespace gimbal::checkpoint {

// One tensor of a model and the file that holds it.
struct TensorInfo {
  TensorEntry entry;
  int file = 0;  // index into WeightIndex::files()
};

// Which file holds which tensor, by name. Errors name the field.
// Parses a model.safetensors.index.json; file names must be plain names in the same folder.
[[nodiscard]] Result<std::map<std::string, std::string>> parse_weight_map(
    const nlohmann::json& index);

// The tensors of a model's folder: those that model.safetensors.index.json lists, or those of
// model.safetensors, or those of all *.safetensors. All headers are read and checked when it is
// opened; data is read on demand. Move-only; thread-safe once open.
class WeightIndex {
 public:
  // Errors name the file, and the tensor and value where one is at fault.
  [[nodiscard]] static Result<WeightIndex> open(const std::string& model_dir);

  [[nodiscard]] const std::map<std::string, TensorInfo, std::less<>>& tensors() const {
    return tensors_;
  }
  [[nodiscard]] std::span<const SafetensorsFile> files() const { return files_; }
  // Of tensor data.
  [[nodiscard]] std::uint64_t total_bytes() const;

  // nullptr when the model has no tensor of that name.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;
  // The tensor, which must be there, have this shape and an element type that the engine reads.
  [[nodiscard]] Result<const TensorInfo*> require(std::string_view name,
                                                  std::span<const std::int64_t> shape) const;

  // As SafetensorsFile::read. Requires: `tensor` is of this index.
  [[nodiscard]] Result<void> read(const TensorInfo& tensor, std::uint64_t begin,
                                  std::span<std::byte> out) const;

 private:
  WeightIndex() = default;
  [[nodiscard]] Result<void> add_listed(const std::string& model_dir,
                                        const std::map<std::string, std::string>& weight_map);
  [[nodiscard]] Result<void> add_whole_file(const std::string& path);

  std::vector<SafetensorsFile> files_;
  std::map<std::string, TensorInfo, std::less<>> tensors_;
};

}  // namespace gimbal::checkpoint
