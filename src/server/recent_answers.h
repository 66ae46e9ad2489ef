#pragma once

#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/ids.h"

namespace gimbal::server {

// Which engine requests stand behind the ids that answers have: the last ones. Thread-safe.
class RecentAnswers {
 public:
  explicit RecentAnswers(std::size_t most = 4096) : most_(most) {}

  // Requires: the id was not added before.
  void add(const std::string& answer_id, std::vector<RequestId> requests);
  // Empty: not known, or too long ago.
  [[nodiscard]] std::vector<RequestId> requests_of(std::string_view answer_id) const;

 private:
  std::size_t most_;
  mutable std::mutex mutex_;
  std::deque<std::string> order_;
  std::unordered_map<std::string, std::vector<RequestId>> requests_;
};

}  // namespace gimbal::server
