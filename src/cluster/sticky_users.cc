#include "cluster/sticky_users.h"

#include <algorithm>

namespace gimbal::cluster {
namespace {

constexpr double kWeight = 0.25;  // of the newest evidence

}  // namespace

StickyUsers::User StickyUsers::arrived(const Entry& entry, TimePoint now) const {
  User user = entry.user;
  const Duration away = now - entry.seen;
  if (away <= Duration::zero()) return user;  // the same arrival, or one from before
  const bool in_session = away <= options_.session;
  user.return_probability += kWeight * ((in_session ? 1.0 : 0.0) - user.return_probability);
  if (in_session) {
    const double ms = to_ms(away);
    user.mean_return_ms =
        user.mean_return_ms ? *user.mean_return_ms + kWeight * (ms - *user.mean_return_ms) : ms;
  } else {
    user.engine.reset();
  }
  return user;
}

StickyUsers::User StickyUsers::look(std::uint64_t user, TimePoint now) const {
  const auto found = users_.find(user);
  if (found == users_.end()) return {.return_probability = options_.return_probability};
  return arrived(found->second, now);
}

void StickyUsers::note(std::uint64_t user, EngineId engine, TimePoint now) {
  auto found = users_.find(user);
  if (found == users_.end()) {
    if (users_.size() >= options_.most_users) {
      users_.erase(order_.front());
      order_.pop_front();
    }
    found = users_.emplace(user, Entry{.user = look(user, now)}).first;
  } else {
    if (now - found->second.seen > options_.session) found->second.rows = {};
    found->second.user = arrived(found->second, now);
    order_.erase(found->second.place);
  }
  Entry& entry = found->second;
  entry.user.engine = engine;
  entry.seen = std::max(entry.seen, now);
  entry.place = order_.insert(order_.end(), user);
}

void StickyUsers::note_expert_rows(std::uint64_t user, const ExpertRows& rows) {
  const auto found = users_.find(user);
  if (found == users_.end()) return;
  ExpertRows& known = found->second.rows;
  if (known.map != rows.map || known.by_rank.size() != rows.by_rank.size()) {
    known = rows;
    return;
  }
  for (std::size_t rank = 0; rank < known.by_rank.size(); ++rank)
    known.by_rank[rank] += kWeight * (rows.by_rank[rank] - known.by_rank[rank]);
}

const ExpertRows* StickyUsers::expert_rows(std::uint64_t user, TimePoint now) const {
  const auto found = users_.find(user);
  if (found == users_.end() || found->second.rows.by_rank.empty()) return nullptr;
  return now - found->second.seen > options_.session ? nullptr : &found->second.rows;
}

}  // namespace gimbal::cluster
