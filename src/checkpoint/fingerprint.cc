#include "checkpoint/fingerprint.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "base/hash.h"

namespace gimbal::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostBytes = std::size_t{1} << 20;  // of each file

Result<std::uint64_t> hash_start(const fs::path& path, std::uint64_t seed) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return io_error(path.string(), errno);
  std::string bytes(kMostBytes, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (file.bad()) return io_error(path.string(), errno);
  bytes.resize(static_cast<std::size_t>(file.gcount()));
  return hash_bytes(bytes, seed);
}

}  // namespace

Result<std::uint64_t> fingerprint(const std::string& model_dir) {
  std::vector<fs::path> weights;
  std::error_code failed;
  for (const fs::directory_entry& entry : fs::directory_iterator(model_dir, failed)) {
    if (entry.path().extension() == ".safetensors") weights.push_back(entry.path());
  }
  if (failed) return Error{ErrorCode::kNotFound, model_dir + ": " + failed.message()};
  std::sort(weights.begin(), weights.end());
  GIMBAL_ASSIGN_OR_RETURN(std::uint64_t hash, hash_start(fs::path(model_dir) / "config.json", 0));
  for (const fs::path& path : weights) {
    hash = hash_combine(hash_bytes(path.filename().string(), hash), fs::file_size(path, failed));
    GIMBAL_ASSIGN_OR_RETURN(hash, hash_start(path, hash));
  }
  return hash;
}

}  // namespace gimbal::checkpoint
