#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>

#include "base/clock.h"
#include "base/ids.h"
#include "cluster/expert_rows.h"

namespace gimbal::cluster {

struct StickyUsersOptions {
  std::size_t most_users = 10'000;              // the least recently seen go first; >= 1
  Duration session = std::chrono::minutes(10);  // after which a user's engine is forgotten; > 0
  double return_probability = 0.5;              // P before evidence; [0, 1]
};

// Where each user was last, how likely and how soon they come back, and where their expert rows
// went. One thread; a function of its calls.
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
  // The user's request arrived now and goes to `engine`. Said again of one arrival, as when another
  // engine gets it, it is no return.
  void note(std::uint64_t user, EngineId engine, TimePoint now);
  // Which ranks ran the rows of a request of the user, which has ended. Of a user who is forgotten:
  // ignored.
  void note_expert_rows(std::uint64_t user, const ExpertRows& rows);
  // EWMA (¼) of those within the session, over the last ones of one map: what another map made of
  // the user's experts says nothing. nullptr: none are known. Holds until the next note.
  [[nodiscard]] const ExpertRows* expert_rows(std::uint64_t user, TimePoint now) const;

  [[nodiscard]] std::size_t size() const { return users_.size(); }

 private:
  struct Entry {
    User user;
    ExpertRows rows;
    TimePoint seen{};
    std::list<std::uint64_t>::iterator place;
  };
  [[nodiscard]] User arrived(const Entry& entry, TimePoint now) const;

  StickyUsersOptions options_;
  std::list<std::uint64_t> order_;  // least recently seen first
  std::unordered_map<std::uint64_t, Entry> users_;
};

}  // namespace gimbal::cluster
