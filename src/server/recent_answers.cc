#include "server/recent_answers.h"

#include <utility>

namespace gimbal::server {

void RecentAnswers::add(const std::string& answer_id, std::vector<RequestId> requests) {
  const std::lock_guard lock(mutex_);
  requests_[answer_id] = std::move(requests);
  order_.push_back(answer_id);
  if (order_.size() <= most_) return;
  requests_.erase(order_.front());
  order_.pop_front();
}

std::vector<RequestId> RecentAnswers::requests_of(std::string_view answer_id) const {
  const std::lock_guard lock(mutex_);
  const auto found = requests_.find(std::string(answer_id));
  if (found == requests_.end()) return {};
  return found->second;
}

}  // namespace gimbal::server
