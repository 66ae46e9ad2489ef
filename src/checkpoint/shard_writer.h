#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "checkpoint/file_handle.h"
#include "tensor/dtype.h"

namespace gimbal::checkpoint {

struct TensorSpec {
  std::string name;
  tensor::DType dtype = tensor::DType::kBF16;
  std::vector<std::int64_t> shape;  // dimensions >= 0

  [[nodiscard]] std::uint64_t bytes() const;  // Requires: fits in 64 bits.
};

struct ShardWriterOptions {
  // A shard is closed before the tensor that would take its data beyond this; a tensor that is
  // larger alone gets a shard of its own.
  std::uint64_t max_shard_bytes = 5'000'000'000;
  // Replace weights that the folder holds already; without it they are an error.
  bool overwrite = false;
};

// Writes tensors as Hugging Face does: model.safetensors, or model-00001-of-00003.safetensors … and
// model.safetensors.index.json. Data is streamed: the caller gives it in pieces, in the order of
// the specs, and no tensor is held whole. The bytes depend on specs, options and data only.
//
// Nothing of the model is visible under its real names before finish(): shards are written under
// temporary names, synced, renamed, the index last; weights that are replaced go first. A writer
// that is destroyed before finish() removes its temporary files. One thread.
class ShardWriter {
 public:
  // Requires: names are unique and not "__metadata__". Makes `dir` if it is not there. Errors: the
  // folder holds weights already (see options), or the system refuses.
  [[nodiscard]] static Result<ShardWriter> create(const std::string& dir,
                                                  std::vector<TensorSpec> tensors,
                                                  const ShardWriterOptions& options = {});
  ~ShardWriter();
  ShardWriter(ShardWriter&&) noexcept = default;
  ShardWriter& operator=(ShardWriter&&) = delete;

  // The tensor whose bytes append() takes next; nullptr when all are written.
  [[nodiscard]] const TensorSpec* current() const;
  // The next bytes of current(), row-major, little-endian.
  // Requires: no more than what is missing of that tensor.
  [[nodiscard]] Result<void> append(std::span<const std::byte> piece);
  // Puts everything in place. Requires: current() == nullptr.
  [[nodiscard]] Result<void> finish();

  [[nodiscard]] std::uint64_t total_bytes() const;  // of tensor data
  [[nodiscard]] int shards() const { return static_cast<int>(shard_ends_.size()); }

 private:
  ShardWriter(std::string dir, std::vector<TensorSpec> tensors);

  [[nodiscard]] std::string shard_name(std::size_t shard) const;
  [[nodiscard]] std::string temporary_path(std::size_t shard) const;
  [[nodiscard]] std::string header_of(std::size_t shard) const;
  [[nodiscard]] std::string index() const;
  [[nodiscard]] Result<void> skip_finished();
  [[nodiscard]] Result<void> open_shard();
  [[nodiscard]] Result<void> close_shard();
  [[nodiscard]] Result<void> flush();

  std::string dir_;
  std::vector<TensorSpec> tensors_;
  std::vector<std::size_t>
      shard_ends_;             // tensors [shard_ends_[i-1], shard_ends_[i]) are in shard i
  std::size_t tensor_ = 0;     // current
  std::uint64_t missing_ = 0;  // bytes of it
  std::size_t shard_ = 0;
  std::vector<FileHandle> open_;        // the current shard's file, or none
  std::vector<std::byte> buffer_;       // small pieces on their way to the file
  std::vector<std::string> temporary_;  // files to remove if finish() does not come
};

}  // namespace gimbal::checkpoint
