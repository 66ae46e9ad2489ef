#include "base/hash.h"

#include <cstring>

namespace gimbal {

std::uint64_t hash_bytes(std::string_view bytes, std::uint64_t seed) {
  std::uint64_t hash = hash_combine(seed, bytes.size());
  while (bytes.size() >= sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof(word));
    hash = hash_combine(hash, word);
    bytes.remove_prefix(sizeof(word));
  }
  std::uint64_t tail = 0;
  std::memcpy(&tail, bytes.data(), bytes.size());
  return hash_combine(hash, tail);
}

std::uint64_t hash_tokens(std::span<const std::int32_t> tokens, std::uint64_t seed) {
  std::uint64_t hash = hash_combine(seed, tokens.size());
  for (const std::int32_t token : tokens) {
    hash = hash_combine(hash, static_cast<std::uint32_t>(token));
  }
  return hash;
}

}  // namespace gimbal
