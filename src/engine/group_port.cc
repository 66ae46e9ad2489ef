#include "engine/group_port.h"

#include <algorithm>
#include <stdexcept>
#include <thread>

#include "base/check.h"

namespace gimbal::engine {

GroupPort::GroupPort(ExpertGroup& group, Rank rank, const kernels::KernelContext& context)
    : group_(group),
      rank_(rank),
      beats_(group.life(), rank),
      serving_{.pool = context.pool,
               .isa = context.isa,
               .urgency = Urgency::kUrgent,
               .interrupt = &beats_},
      map_(group.map()),
      lists_(static_cast<std::size_t>(group.ranks())),
      counts_(group.ranks(), static_cast<int>(group.options().executor.max_batches *
                                              group.options().executor.max_batch_rows)),
      counted_version_(map_->version()) {
  counts_.use_map(*map_);
}

std::uint32_t GroupPort::map_version() const {
  if (map_->version() != group_.map_version()) map_ = group_.map();
  return map_->version();
}

void GroupPort::post(const sched::ExpertPost& post) {
  for (std::vector<PostedEntry>& list : lists_)
    list.clear();
  if (map_->version() != counted_version_) {
    counted_version_ = map_->version();
    counts_.use_map(*map_);
  }
  const std::size_t choices = post.rows.empty() ? 0 : post.experts.size() / post.rows.size();
  for (std::size_t i = 0; i < post.rows.size(); ++i) {
    for (std::size_t choice = 0; choice < choices; ++choice) {
      const ExpertId expert{post.experts[i * choices + choice]};
      const Rank to = map_->destination(post.layer, expert, row_key_++);
      counts_.add(post.rows[i].slot, to);
      PostedEntry& entry = lists_[static_cast<std::size_t>(to.value())].emplace_back();
      entry.row = post.rows[i];
      entry.row.first_output += static_cast<std::int32_t>(choice);
      entry.expert = expert;
    }
  }
  PostHeader header{.layer = post.layer,
                    .step = post.step,
                    .members = post.members,
                    .map_version = post.map_version,
                    .since = group_.clock().now()};
  if (post.step != sched::kSolo && post.step == limited_step_) header.hold_limit = hold_limit_;
  const bool limited = header.hold_limit > Duration::zero();
  hold_check_ = limited ? header.since + header.hold_limit : TimePoint{};
  awaited_ += static_cast<std::int64_t>(post.experts.size());
  // In a gang step every service hears from every member, so that it knows when all have spoken.
  for (int to = 0; to < group_.ranks(); ++to) {
    const std::vector<PostedEntry>& list = lists_[static_cast<std::size_t>(to)];
    if (!list.empty() || post.step != sched::kSolo) send(Rank{to}, header, list);
  }
}

void GroupPort::send(Rank to, const PostHeader& header, std::span<const PostedEntry> entries) {
  ExpertStation& station = group_.station(to);
  PostHeader timed = header;
  if (group_.options().profile) {
    timed.arrives = station.arrival(rank_, group_.clock().now(), entries.size());
    timed.since = std::max(timed.since, timed.arrives);
  }
  // Rows are bounded by what comes back, but labels of gang steps that have no rows for a service
  // pile up where its rank does not get to run: then its mail is taken here, whoever may serve it.
  while (!station.has_room(rank_, entries.size())) {
    if (group_.broken()) throw std::runtime_error("a rank ended while it ran experts");
    if (!station.serve(serving_, rank_, group_.life(), late_)) std::this_thread::yield();
  }
  station.deliver(rank_, timed, entries);
  if (to != rank_) group_.life().bell(to.value()).ring();
}

void GroupPort::cancel(sched::SourceSlot, std::uint32_t) {
  GIMBAL_CHECK(false, "rows of a group are waited for, not cancelled");
}

void GroupPort::leave(std::uint64_t gang_step, std::uint64_t members) {
  PostHeader header{.kind = PostHeader::Kind::kLeave};
  header.step = gang_step;
  header.members = members;
  for (int to = 0; to < group_.ranks(); ++to)
    send(Rank{to}, header, {});
}

std::span<const sched::ExpertEntry> GroupPort::advance() {
  collect();
  progress_ = !arrived_.empty();
  if (progress_ || !serve()) return arrived_;
  progress_ = true;
  collect();
  return arrived_;
}

// What came back from all services; arrived_ is overwritten.
void GroupPort::collect() {
  arrived_.clear();
  const TimePoint now = group_.options().profile ? group_.clock().now() : TimePoint::max();
  for (int from = 0; from < group_.ranks(); ++from) {
    ReturnChannel& returns = group_.station(Rank{from}).returns(rank_);
    for (const ReturnHeader* next = returns.peek(); next != nullptr && next->arrives <= now;
         next = returns.peek()) {
      const ReturnHeader header = returns.receive(message_);
      arrived_.insert(arrived_.end(), message_.begin(), message_.end());
      totals_.rows += message_.size();
      awaited_ -= static_cast<std::int64_t>(message_.size());
      totals_.service += header.service;
      totals_.distinct_experts += header.distinct_experts;
    }
  }
}

bool GroupPort::may_serve(Rank rank) const {
  return rank == rank_ || group_.options().shared_workers || !group_.alive(rank);
}

void GroupPort::between_tasks() {
  if (thrown_) return;
  try {
    (void)serve();
  } catch (...) {
    thrown_ = std::current_exception();
  }
}

bool GroupPort::serve() {
  if (thrown_) std::rethrow_exception(thrown_);
  group_.life().beat(rank_.value());
  if (!group_.alive(rank_)) return false;
  bool ran = serve(rank_);
  if (!group_.options().shared_workers && !group_.life().anybody_gone()) return ran;
  for (int rank = 0; rank < group_.ranks(); ++rank) {
    if (Rank{rank} != rank_ && may_serve(Rank{rank})) ran = serve(Rank{rank}) || ran;
  }
  return ran;
}

bool GroupPort::serve(Rank rank) {
  ExpertStation& station = group_.station(rank);
  if (!station.has_work()) return false;
  const TimePoint started = group_.clock().now();
  const bool ran = station.serve(serving_, rank_, group_.life(), late_);
  totals_.serving += group_.clock().now() - started;
  return ran;
}

cluster::ExpertWork GroupPort::work() const {
  cluster::ExpertWork work(group_.station(rank_).service().layers(), group_.ranks());
  for (int rank = 0; rank < group_.ranks(); ++rank)
    group_.station(Rank{rank}).service().report_work(rank_, Rank{rank}, work);
  return work;
}

std::optional<Duration> GroupPort::time_to_next_due() const {
  const TimePoint now = group_.clock().now();
  std::optional<TimePoint> next;
  const auto consider = [&next](TimePoint due) {
    if (!next || due < *next) next = due;
  };
  for (int rank = 0; rank < group_.ranks(); ++rank) {
    ExpertStation& station = group_.station(Rank{rank});
    if (group_.options().profile) {
      if (const ReturnHeader* back = station.returns(rank_).peek()) consider(back->arrives);
    }
    if (!may_serve(Rank{rank})) continue;
    // Whoever serves there looks again before it goes.
    if (const auto due = station.next_due(); due && !station.server()) consider(*due);
  }
  // Who took our posts, or does so now, and knows how long they are held, may be the one that is
  // late: we look again and again.
  if (awaited_ > 0 && hold_check_ != TimePoint{}) {
    const Duration again = std::max<Duration>(hold_limit_, std::chrono::milliseconds(1));
    consider(hold_check_ > now ? hold_check_ : now + again);
  }
  if (!next) return std::nullopt;
  return std::max(Duration::zero(), *next - now);
}

}  // namespace gimbal::engine
