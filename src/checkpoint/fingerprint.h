#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace gimbal::checkpoint {

// A number that tells checkpoints apart: a hash of config.json, and of the names, sizes and first
// MiB of all weight files. Cheap, and not proof against intent. kNotFound, kIo: a file of them
// cannot be read; the message names it.
[[nodiscard]] Result<std::uint64_t> fingerprint(const std::string& model_dir);

}  // namespace gimbal::checkpoint
