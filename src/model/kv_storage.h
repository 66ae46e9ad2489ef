#pragma once

#include <cstdint>

#include "base/ids.h"
#include "kernels/kv_cache.h"
#include "model_config/model_config.h"
#include "tensor/buffer.h"

namespace gimbal::model {

// The memory behind one engine's KV pages: for each layer an array of pages, each with the keys and
// values of kPageTokens tokens. Which page belongs to whom is kept elsewhere (module kv).
// Thread-compatible: different pages may be written at once.
class KvStorage {
 public:
  // Reserves memory; it is touched only as pages are written.
  KvStorage(const model_config::ModelConfig& config, tensor::DType dtype, std::int64_t pages);

  [[nodiscard]] std::int64_t pages() const { return pages_; }
  [[nodiscard]] kernels::KvLayer layer(LayerIndex layer) const;

  // Bytes of one page over all layers.
  [[nodiscard]] static std::int64_t page_bytes(const model_config::ModelConfig& config,
                                               tensor::DType dtype);

 private:
  kernels::KvLayout layout_;
  std::int64_t pages_;
  tensor::Buffer memory_;
};

}  // namespace gimbal::model
