#pragma once

#include <string>

#include "base/temporary_folder.h"

namespace gimbal::loadgen {

// For tests: a key, and a certificate that the key itself has signed, in one PEM file.
class TestCertificate {
 public:
  // `names`: whom it is for, as OpenSSL writes it: "IP:127.0.0.1", "DNS:example.com".
  explicit TestCertificate(const std::string& names);

  [[nodiscard]] std::string path() const { return folder_.path("certificate.pem"); }

 private:
  TemporaryFolder folder_;
};

}  // namespace gimbal::loadgen
