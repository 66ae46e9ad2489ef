#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gimbal::server {

// The first 64 bits of the SHA-256 of `text`, never 0: keys from names that clients choose, where
// one client must not be able to hit another's key.
[[nodiscard]] std::uint64_t secure_key(std::string_view text);

// The API keys that open the server. Immutable, so thread-safe.
class ApiKeys final {
 public:
  explicit ApiKeys(const std::vector<std::string>& keys);

  // Whether a request with this Authorization header may pass: no keys are set, or it is
  // "Bearer KEY" with one of them. Takes the same time for every wrong key.
  [[nodiscard]] bool admit(std::string_view authorization) const;

 private:
  std::vector<std::string> digests_;
};

}  // namespace gimbal::server
