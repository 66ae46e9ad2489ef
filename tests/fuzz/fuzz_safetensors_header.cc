// A whole safetensors file: whatever the bytes, tensors that are accepted lie inside it, one behind
// the other, with sizes that follow from their shapes.

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.h"
#include "checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto header = gimbal::checkpoint::parse_safetensors(std::as_bytes(std::span(data, size)));
  if (!header.ok()) return 0;
  GIMBAL_CHECK(header->data_offset >= 8 && header->data_offset <= size);
  std::uint64_t at = header->data_offset;
  for (const auto& tensor : header->tensors) {
    GIMBAL_CHECK(tensor.offset == at && tensor.bytes <= size - at);
    at += tensor.bytes;
    std::uint64_t bits = tensor.type.bits;
    for (const auto dimension : tensor.shape) {
      GIMBAL_CHECK(dimension >= 0);
      bits *= static_cast<std::uint64_t>(dimension);
    }
    GIMBAL_CHECK(bits == tensor.bytes * 8);
  }
  GIMBAL_CHECK(at == size);
  return 0;
}
