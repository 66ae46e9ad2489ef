#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "tensor/dtype.h"

namespace gimbal::checkpoint {

// An element type that the safetensors format knows: its name there, the bits of one element (some
// types are narrower than a byte), and what it is to the engine, if anything.
struct StoredType {
  std::string_view name;  // "BF16"; lives as long as the program
  std::uint32_t bits = 0;
  std::optional<tensor::DType> dtype;

  bool operator==(const StoredType&) const = default;
};

// nullptr for a name that the format does not know.
[[nodiscard]] const StoredType* find_stored_type(std::string_view name);
[[nodiscard]] const StoredType& stored_type_of(tensor::DType dtype);

}  // namespace gimbal::checkpoint
