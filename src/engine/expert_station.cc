#include "engine/expert_station.h"

#include <algorithm>

#include "base/check.h"

namespace gimbal::engine {
namespace {

// Messages of one source under way: a post and a leave for each layer of each batch, and more.
constexpr std::size_t kMostMessages = 4096;

template <class T>
void add(std::atomic<T>& total, T more) {
  // One writer at a time: no need for an atomic addition.
  total.store(total.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}

comm::ExchangeLink link_between(const ExpertStationOptions& options, Rank from, Rank to) {
  if (options.profile == nullptr || from == to) return comm::ExchangeLink{};
  return comm::ExchangeLink{options.profile->tier(from, to)};
}

}  // namespace

ExpertStation::ExpertStation(const model::Model& model, const model::RowStore& rows,
                             const Clock& clock, std::span<comm::Doorbell* const> bells,
                             const ExpertStationOptions& options)
    : clock_(clock),
      bells_(bells.begin(), bells.end()),
      options_(options),
      row_bytes_(static_cast<std::uint64_t>(model.config().hidden_size) *
                 tensor::size_of(model.dtype())),
      workspace_(model.config(), model.dtype(), rows.rows()),
      service_(model, rows, workspace_, clock, options.ranks),
      holds_({.ranks = options.ranks,
              .layers = model.config().num_layers(),
              .posts_per_member = std::max(1, model.config().moe_layers())}) {
  // Twice what can be under way: a source that was given up by others may ask once more.
  const auto entries = static_cast<std::size_t>(2 * options.max_entries);
  for (int source = 0; source < options.ranks; ++source) {
    mail_.push_back(std::make_unique<PostChannel>(kMostMessages, entries));
    returns_.push_back(std::make_unique<ReturnChannel>(entries, entries));
    links_in_.push_back(link_between(options, Rank{source}, options.rank));
    links_out_.push_back(link_between(options, options.rank, Rank{source}));
  }
}

void ExpertStation::set_trace(Trace& trace, std::int32_t process) {
  trace_ = &trace;
  service_.set_trace(trace, process);
  holds_track_ = trace.add_track(process, "holds");
}

void ExpertStation::deliver(Rank source, const PostHeader& header,
                            std::span<const PostedEntry> entries) {
  mail_[static_cast<std::size_t>(source.value())]->send(header, entries);
  pending_.store(true);
}

TimePoint ExpertStation::arrival(Rank source, TimePoint now, std::size_t rows) {
  if (options_.profile == nullptr || source == options_.rank) return TimePoint{};
  return links_in_[static_cast<std::size_t>(source.value())].send(
      now, static_cast<double>(rows * row_bytes_));
}

std::optional<TimePoint> ExpertStation::next_due() const {
  const Duration next = due();  // once: who serves may change it meanwhile
  if (next.count() == kNever) return std::nullopt;
  return TimePoint{next};
}

void ExpertStation::forget(Rank rank) {
  dead_.fetch_or(sched::rank_bit(rank));
  pending_.store(true);
}

bool ExpertStation::serve(const kernels::KernelContext& context, Rank server, LifeSigns& life,
                          std::vector<sched::GangRelease::Late>& late) {
  bool ran = false;
  while (has_work()) {
    // Who comes second may go: this thread looks at has_work() again after it has let go.
    life.beat(server.value());
    int nobody = kNobody;
    if (!server_.compare_exchange_strong(nobody, server.value())) return ran;
    // An exchange, not a store: what was sent before the flag was set is seen below.
    (void)pending_.exchange(false);
    take_mail(late);
    if (run_once(context)) {
      ran = true;
      if (service_.waiting() > 0) pending_.store(true);
    }
    server_.store(kNobody);
  }
  return ran;
}

void ExpertStation::take_mail(std::vector<sched::GangRelease::Late>& late) {
  TimePoint due = TimePoint::max();
  forget_the_dead();
  const TimePoint now = options_.profile != nullptr ? clock_.now() : TimePoint::max();
  for (int source = 0; source < options_.ranks; ++source) {
    PostChannel& mail = *mail_[static_cast<std::size_t>(source)];
    while (const PostHeader* next = mail.peek()) {
      if (next->arrives > now) {
        due = std::min(due, next->arrives);
        break;
      }
      take_message(Rank{source}, mail);
    }
  }
  expire_holds(late);
  due = std::min(due, holds_.next_deadline());
  due_.store(due.time_since_epoch().count(), std::memory_order_relaxed);
}

// After all mail was taken: who was not looked after for long has not made others late.
void ExpertStation::expire_holds(std::vector<sched::GangRelease::Late>& late) {
  if (holds_.next_deadline() == TimePoint::max()) return;
  const TimePoint now = clock_.now();
  if (now < holds_.next_deadline()) return;
  holds_.expire(now, release_);
  release();
  late.insert(late.end(), release_.late.begin(), release_.late.end());
}

void ExpertStation::take_message(Rank source, PostChannel& mail) {
  const PostHeader header = mail.receive(entries_);
  if (source != options_.rank) add(totals_.bytes_in, entries_.size() * row_bytes_);
  if (header.kind == PostHeader::Kind::kLeave) {
    holds_.leave(source, header.step, header.members, release_);
    release();
  } else if (header.step == sched::kSolo) {
    queue(source, header, entries_);
  } else {
    hold(source, header);
  }
}

// The message in entries_ waits until its gang step's other members have sent theirs.
void ExpertStation::hold(Rank source, const PostHeader& header) {
  if (free_held_.empty()) {
    free_held_.push_back(static_cast<std::int32_t>(held_.size()));
    held_.emplace_back();
  }
  const std::int32_t number = free_held_.back();
  free_held_.pop_back();
  Held& held = held_[static_cast<std::size_t>(number)];
  held.header = header;
  held.source = source;
  held.since = clock_.now();
  std::swap(held.entries, entries_);
  holds_.post({.source = source,
               .layer = header.layer,
               .step = header.step,
               .members = header.members,
               .post = number,
               .deadline = header.hold_limit > Duration::zero() ? held.since + header.hold_limit
                                                                : TimePoint::max()},
              release_);
  release();
}

// What the holds let go of.
void ExpertStation::release() {
  const TimePoint now = release_.posts.empty() ? TimePoint{} : clock_.now();
  for (const std::int32_t number : release_.posts) {
    Held& held = held_[static_cast<std::size_t>(number)];
    add(totals_.held, (now - held.since).count());
    hold_times_.record(now - held.since);
    if (trace_ != nullptr) {
      // Of different sources they overlap: spans, not one line's events.
      const std::uint64_t span = ++trace_spans_;
      const double source = held.source.value();
      trace_->begin_span(holds_track_, "hold", span, "held", held.since, {{"source", source}});
      trace_->end_span(holds_track_, "hold", span, "held", now);
    }
    if (release_.holds.empty()) held.header.step = sched::kSolo;  // its source had left
    queue(held.source, held.header, held.entries);
    free_held_.push_back(number);
  }
  free_held_.insert(free_held_.end(), release_.dropped.begin(), release_.dropped.end());
  add(totals_.holds, static_cast<std::uint64_t>(release_.holds.size()));
}

void ExpertStation::queue(Rank source, const PostHeader& header,
                          std::span<const PostedEntry> entries) {
  if (entries.empty()) return;
  rows_.clear();
  experts_.clear();
  for (const PostedEntry& entry : entries) {
    rows_.push_back(entry.row);
    experts_.push_back(entry.expert.value());
  }
  service_.post_since({.source = source,
                       .layer = header.layer,
                       .step = header.step,
                       .members = header.members,
                       .map_version = header.map_version,
                       .rows = rows_,
                       .experts = experts_},
                      header.since);
}

void ExpertStation::forget_the_dead() {
  const std::uint64_t dead = dead_.load() & ~holds_.dead_ranks();
  if (dead == 0) return;
  for (int rank = 0; rank < options_.ranks; ++rank) {
    if ((dead & sched::rank_bit(Rank{rank})) == 0) continue;
    holds_.dead(Rank{rank}, release_);
    release();
  }
}

bool ExpertStation::run_once(const kernels::KernelContext& context) {
  if (service_.waiting() == 0) return false;
  const ExpertService::Counters before = service_.counters();
  const std::span<const sched::ExpertEntry> entries = service_.run(context);
  if (entries.empty()) return false;
  const ExpertService::Counters& after = service_.counters();
  add(totals_.runs, std::uint64_t{1});
  add(totals_.rows, static_cast<std::uint64_t>(entries.size()));
  add(totals_.distinct_experts, after.distinct_experts - before.distinct_experts);
  add(totals_.busy, (after.busy - before.busy).count());
  send_back(entries, before);
  return true;
}

void ExpertStation::send_back(std::span<const sched::ExpertEntry> entries,
                              const ExpertService::Counters& before) {
  const ExpertService::Counters& after = service_.counters();
  const auto busy = static_cast<double>((after.busy - before.busy).count());
  const auto distinct = static_cast<double>(after.distinct_experts - before.distinct_experts);
  for (int source = 0; source < options_.ranks; ++source) {
    back_.clear();
    std::copy_if(entries.begin(), entries.end(), std::back_inserter(back_),
                 [source](const sched::ExpertEntry& entry) { return entry.source == source; });
    if (back_.empty()) continue;
    const bool own = Rank{source} == options_.rank;
    const double share = static_cast<double>(back_.size()) / static_cast<double>(entries.size());
    const auto bytes = static_cast<double>(back_.size() * row_bytes_);
    const auto place = static_cast<std::size_t>(source);
    returns_[place]->send({.arrives = options_.profile == nullptr || own
                                          ? TimePoint{}
                                          : links_out_[place].send(clock_.now(), bytes),
                           .service = Duration{static_cast<Duration::rep>(busy * share)},
                           .distinct_experts = distinct * share},
                          back_);
    if (!own) add(totals_.bytes_out, back_.size() * row_bytes_);
    bells_[place]->ring();
  }
}

ExpertStation::Counters ExpertStation::counters() const {
  const auto read = [](const auto& value) { return value.load(std::memory_order_relaxed); };
  return {.runs = read(totals_.runs),
          .rows = read(totals_.rows),
          .distinct_experts = read(totals_.distinct_experts),
          .busy = Duration{read(totals_.busy)},
          .holds = read(totals_.holds),
          .held = Duration{read(totals_.held)},
          .bytes_in = read(totals_.bytes_in),
          .bytes_out = read(totals_.bytes_out)};
}

}  // namespace gimbal::engine
