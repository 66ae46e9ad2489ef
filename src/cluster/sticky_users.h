#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>

#include "base/clock.h"
#include "base/ids.h"

namespace gimbal::cluster {

struct StickyUsersOptions {
  std::size_t most_users = 10'000;              // the least recently seen go first; >= 1
  Duration session = std::chrono::minutes(10);  // after which a user's engine is forgotten; > 0
  double return_probability = 0.5;              // P before evidence; [0, 1]
};

// Where each user was last, and how likely and how soon they come back. One thread; a function of
// its calls.
class StickyUsers {
 public:
  explicit StickyUsers(const StickyUsersOptions& options) : options_(options) {}

  struct User {
    std::optional<EngineId> engine;        // within the session
    double return_probability = 0.5;       // P: EWMA (¼) of "came back within the session"
    std::optional<double> mean_return_ms;  // EWMA (¼) of those that did
  };
  // What is known of the user, whose request arrives now.
  [[nodiscard]] User look(std::uint64_t user, TimePoint now) const;
  // The user's request arrived now and goes to `engine`.
  void note(std::uint64_t user, EngineId engine, TimePoint now);

  [[nodiscard]] std::size_t size() const { return users_.size(); }

 private:
  struct Entry {
    User user;
    TimePoint seen{};
    std::list<std::uint64_t>::iterator place;
  };
  [[nodiscard]] User arrived(const Entry& entry, TimePoint now) const;

  StickyUsersOptions options_;
  std::list<std::uint64_t> order_;  // least recently seen first
  std::unordered_map<std::uint64_t, Entry> users_;
};

}  // namespace gimbal::cluster
