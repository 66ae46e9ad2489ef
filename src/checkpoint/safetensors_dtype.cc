#include "checkpoint/safetensors_dtype.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace gimbal::checkpoint {
namespace {

constexpr std::array kStoredTypes = {
    StoredType{"F32", 32, tensor::DType::kF32},
    StoredType{"BF16", 16, tensor::DType::kBF16},
    StoredType{"F16", 16, tensor::DType::kF16},
    StoredType{"F64", 64, {}},
    StoredType{"C64", 64, {}},
    StoredType{"I64", 64, {}},
    StoredType{"U64", 64, {}},
    StoredType{"I32", 32, {}},
    StoredType{"U32", 32, {}},
    StoredType{"I16", 16, {}},
    StoredType{"U16", 16, {}},
    StoredType{"I8", 8, {}},
    StoredType{"U8", 8, {}},
    StoredType{"BOOL", 8, {}},
    StoredType{"F8_E4M3", 8, {}},
    StoredType{"F8_E5M2", 8, {}},
    StoredType{"F8_E8M0", 8, {}},
    StoredType{"F8_E4M3FNUZ", 8, {}},
    StoredType{"F8_E5M2FNUZ", 8, {}},
    StoredType{"F6_E2M3", 6, {}},
    StoredType{"F6_E3M2", 6, {}},
    StoredType{"F4", 4, {}},
};

}  // namespace

const StoredType* find_stored_type(std::string_view name) {
  const auto found = std::ranges::find(kStoredTypes, name, &StoredType::name);
  return found == kStoredTypes.end() ? nullptr : &*found;
}

const StoredType& stored_type_of(tensor::DType dtype) {
  const auto found = std::ranges::find(kStoredTypes, std::optional(dtype), &StoredType::dtype);
  GIMBAL_CHECK(found != kStoredTypes.end());
  return *found;
}

}  // namespace gimbal::checkpoint
