#include "server/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <cstring>

#include "base/check.h"

namespace gimbal::server {
namespace {

std::string sha256(std::string_view text) {
  std::string digest(32, '\0');
  unsigned int size = 0;
  const int made =
      EVP_Digest(text.data(), text.size(), reinterpret_cast<unsigned char*>(digest.data()), &size,
                 EVP_sha256(), nullptr);
  GIMBAL_CHECK(made == 1 && size == digest.size());
  return digest;
}

// "Bearer" in any case, then one space: RFC 7235 schemes are case-insensitive.
bool is_bearer(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size()) return false;
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    const char letter = authorization[i];
    const char lower = letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
    if (lower != kScheme[i]) return false;
  }
  return true;
}

}  // namespace

std::uint64_t secure_key(std::string_view text) {
  const std::string digest = sha256(text);
  std::uint64_t key = 0;
  std::memcpy(&key, digest.data(), sizeof key);
  return key == 0 ? 1 : key;
}

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys)
    digests_.push_back(sha256(key));
}

bool ApiKeys::admit(std::string_view authorization) const {
  if (digests_.empty()) return true;
  if (!is_bearer(authorization)) return false;
  const std::string digest = sha256(authorization.substr(7));
  bool found = false;
  for (const std::string& known : digests_) {
    found |= CRYPTO_memcmp(known.data(), digest.data(), digest.size()) == 0;
  }
  return found;
}

}  // namespace gimbal::server
