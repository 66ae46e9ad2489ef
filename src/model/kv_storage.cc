#include "model/kv_storage.h"

#include "base/check.h"

namespace gimbal::model {
namespace {

kernels::KvLayout layout_of(const model_config::ModelConfig& config, tensor::DType dtype) {
  return {.dtype = dtype, .kv_heads = config.kv_heads, .head_dim = config.head_dim};
}

}  // namespace

KvStorage::KvStorage(const model_config::ModelConfig& config, tensor::DType dtype,
                     std::int64_t pages)
    : layout_(layout_of(config, dtype)),
      pages_(pages),
      memory_(static_cast<std::size_t>(page_bytes(config, dtype) * pages)) {}

kernels::KvLayer KvStorage::layer(LayerIndex layer) const {
  const std::int64_t stride = layout_.page_bytes();
  return {.pages = memory_.data() + layer.value() * pages_ * stride,
          .page_stride = stride,
          .layout = layout_};
}

std::int64_t KvStorage::page_bytes(const model_config::ModelConfig& config, tensor::DType dtype) {
  return layout_of(config, dtype).page_bytes() * config.num_layers();
}

}  // namespace gimbal::model
