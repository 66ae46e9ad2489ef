#include "cluster/engine_views.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace gimbal::cluster {
namespace {

constexpr Duration kCountsAge = std::chrono::milliseconds(100);  // of `vllm`'s counts

}  // namespace

EngineViews::EngineViews(const DispatcherOptions& options, const policy::RequestOrder& order)
    : options_(options),
      order_(order),
      digests_(static_cast<std::size_t>(options.engines)),
      mirror_(options.engines, options.page_tokens, options.model_salt),
      views_(static_cast<std::size_t>(options.engines)) {
  for (int i = 0; i < options.engines; ++i) {
    EngineWatchOptions watch = options.watch;
    watch.seed = hash_combine(options.seed, static_cast<std::uint64_t>(i));
    Engine& engine = engines_.emplace_back(Engine{.watch = EngineWatch(watch)});
    const auto index = static_cast<std::size_t>(i);
    if (!options.groups.empty() && i > 0 && options.groups[index] == options.groups[index - 1])
      engine.rank = engines_[index - 1].rank + 1;
  }
}

const EngineViews::Engine& EngineViews::at(EngineId engine) const {
  GIMBAL_CHECK(engine.value() >= 0 && engine.value() < options_.engines);
  return engines_[static_cast<std::size_t>(engine.value())];
}

EngineViews::Engine& EngineViews::of(EngineId engine) {
  return const_cast<Engine&>(std::as_const(*this).at(engine));
}

bool EngineViews::note_snapshot(EngineId engine, const EngineSnapshot& snapshot) {
  Engine& known = of(engine);
  const auto& newest = known.watch.snapshot();
  if (newest && snapshot.sequence <= newest->sequence) return false;
  known.watch.note(snapshot);
  known.ledger.seen(snapshot.dispatch_sequence);
  digests_[static_cast<std::size_t>(engine.value())] = {
      .waiting_tokens = static_cast<double>(snapshot.waiting_prefill_tokens),
      .most_waiting = static_cast<double>(snapshot.max_waiting_prefill_tokens),
      .sensitive_tokens = static_cast<double>(snapshot.waiting_prefill_tokens -
                                              snapshot.waiting_best_effort_prefill_tokens),
      .ms_per_token = snapshot.prefill_cost.ms_per_token,
      .prefill_rows = snapshot.prefill_rows,
      .fitted = snapshot.step_times.has_value(),
      .profiled = snapshot.queues_profiled,
      .queued = {snapshot.queue.size() > 0, snapshot.best_effort_queue.size() > 0}};
  return true;
}

void EngineViews::note_prefix(EngineId engine, std::span<const kv::PrefixEvent> events) {
  mirror_.note(engine, events);
}

void EngineViews::note_expert_pressure(EngineId engine, std::optional<double> pressure) {
  of(engine).pressure = pressure;
}

void EngineViews::note_expert_map(EngineId engine, std::uint64_t fingerprint) {
  of(engine).expert_map = fingerprint;
}

void EngineViews::note_health(EngineId engine, bool healthy, TimePoint now) {
  of(engine).watch.note_health(healthy, now);
}

void EngineViews::note_sent(EngineId engine, const LedgerEntry& entry) {
  Engine& chosen = of(engine);
  chosen.ledger.send(entry);
  ++chosen.counted_waiting;
  ++chosen.dispatched;
}

void EngineViews::note_first_token(EngineId engine, RequestId request) {
  of(engine).ledger.first_token(request);
}

void EngineViews::note_end(EngineId engine, RequestId request) {
  of(engine).ledger.end(request);
}

policy::PrefillCost EngineViews::prefill_cost() const {
  policy::PrefillCost cost = options_.prefill_cost;
  double sum = 0;
  int said = 0;
  for (const Digest& digest : digests_) {
    if (!(digest.ms_per_token > 0)) continue;
    sum += digest.ms_per_token;
    ++said;
  }
  if (said > 0) cost.ms_per_token = sum / said;
  return cost;
}

// Only the hits of the first of equal prompts are added.
void EngineViews::find_hits(DispatchGroup& group) {
  group.hits.assign(engines_.size(), 0);
  if (!options_.prefix_caching) return;
  for (std::size_t i = 0; i < group.requests.size(); ++i) {
    const sched::Request& request = group.requests[i];
    const bool shares = group.own_tokens[i] < static_cast<double>(request.prompt.size());
    if (request.sampling.prompt_logprobs || shares) continue;
    mirror_.hits(request.prompt, request.cache_salt, request_hits_);
    for (std::size_t engine = 0; engine < engines_.size(); ++engine)
      group.hits[engine] += request_hits_[engine];
  }
}

double EngineViews::waiting_tokens(std::size_t index) const {
  return digests_[index].waiting_tokens + engines_[index].ledger.counts().unseen_prefill_tokens;
}

bool EngineViews::has_room(std::size_t index, double prefill_tokens) const {
  const double most = digests_[index].most_waiting;
  const double waiting = waiting_tokens(index);
  return most <= 0 || waiting <= 0 || waiting + prefill_tokens <= most;
}

void EngineViews::refresh_counts(TimePoint now) {
  if (counted_ && now - counted_at_ < kCountsAge) return;
  counted_ = true;
  counted_at_ = now;
  for (Engine& engine : engines_) {
    const auto& snapshot = engine.watch.snapshot();
    engine.counted_waiting = snapshot ? static_cast<double>(snapshot->waiting_requests) : 0;
    engine.counted_running = snapshot ? static_cast<double>(snapshot->running_requests) : 0;
  }
}

void EngineViews::begin_view(std::size_t index, policy::EngineView& view) const {
  view = {};
  view.page_tokens = options_.page_tokens;
  engines_[index].watch.fill_said(view);
  if (!options_.groups.empty()) view.group = options_.groups[index];
}

void EngineViews::fill_view(std::size_t index, TimePoint now, policy::EngineView& view) const {
  const Engine& engine = engines_[index];
  engine.watch.fill_now(now, view);
  view.ledger = engine.ledger.counts();
  view.cached_pages =
      static_cast<double>(mirror_.pages(EngineId{static_cast<EngineId::rep>(index)}));
  view.counted_waiting = engine.counted_waiting;
  view.counted_running = engine.counted_running;
  if (options_.feedback) view.expert_pressure = engine.pressure;
}

// Step costs of the engine that has seen most prompts, of those that are not excluded; nullopt:
// each engine's own count.
std::optional<policy::StepCosts> EngineViews::shared_costs(TimePoint now) const {
  if (!options_.engines_alike) return std::nullopt;
  const Digest* most = nullptr;
  for (std::size_t i = 0; i < digests_.size(); ++i) {
    const Digest& digest = digests_[i];
    if (!digest.fitted || excluded(i, now)) continue;
    if (most == nullptr || digest.prefill_rows > most->prefill_rows) most = &digest;
  }
  if (most == nullptr) return std::nullopt;
  return engines_[static_cast<std::size_t>(most - digests_.data())].watch.costs();
}

// Of `all` rows, those at the engine's rank. Groups with one map put the same rows at the same
// rank.
std::optional<double> EngineViews::local_share(std::size_t index, const ExpertRows& rows,
                                               double all) const {
  const Engine& engine = engines_[index];
  if (engine.expert_map != rows.map || engine.rank >= rows.by_rank.size()) return std::nullopt;
  return rows.by_rank[engine.rank] / all;
}

bool EngineViews::anybody_left(const DispatchGroup& group, TimePoint now) const {
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    if (!group.tried[i] && !excluded(i, now)) return true;
  }
  return false;
}

// An engine that is excluded seems empty: while there is another to try, it has no room.
void EngineViews::close_excluded(const DispatchGroup& group, TimePoint now) {
  if (!anybody_left(group, now)) return;
  for (policy::EngineView& view : views_)
    view.room = view.room && view.freshness != policy::Freshness::kExcluded;
}

policy::EngineView EngineViews::view(EngineId engine, TimePoint now) const {
  policy::EngineView view;
  GIMBAL_CHECK(engine.value() >= 0 && engine.value() < options_.engines);
  const auto index = static_cast<std::size_t>(engine.value());
  begin_view(index, view);
  view.room = has_room(index, 1);
  fill_view(index, now, view);
  if (const auto costs = shared_costs(now)) view.costs = costs;
  return view;
}

// Where the engine's order would put the group's first request by its key, if it were sent now.
std::optional<double> EngineViews::tokens_ahead(const DispatchGroup& group, std::size_t index,
                                                TimePoint now) const {
  const Digest& digest = digests_[index];
  if (!digest.profiled) return std::nullopt;
  const bool best_effort = group.best_effort();
  const double sensitive = digest.sensitive_tokens;
  if (!digest.queued[best_effort ? 1 : 0]) return best_effort ? sensitive : 0;
  const auto& snapshot = engines_[index].watch.snapshot();
  const policy::QueueProfile& queue = best_effort ? snapshot->best_effort_queue : snapshot->queue;
  const sched::Request& first = group.requests.front();
  const double tokens = std::max(1.0, static_cast<double>(first.prompt.size()) - group.hits[index]);
  std::optional<double> aging;
  if (options_.order_options.aging_auto) {
    aging = best_effort ? snapshot->best_effort_aging : snapshot->aging;
  }
  const policy::OrderKey key = order_.key({.arrival = options_.late ? group.arrival : now,
                                           .job_ms = snapshot->prefill_cost.ms(tokens),
                                           .priority = first.priority,
                                           .aging = aging});
  return (best_effort ? sensitive : 0) + queue.tokens_before(key);
}

const std::vector<policy::EngineView>& EngineViews::show(const DispatchGroup& group,
                                                         const ExpertRows* rows, TimePoint now) {
  refresh_counts(now);
  const std::optional<policy::StepCosts> costs = shared_costs(now);
  const double all =
      rows == nullptr ? 0 : std::accumulate(rows->by_rank.begin(), rows->by_rank.end(), 0.0);
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    policy::EngineView& view = views_[i];
    if (!std::exchange(digests_[i].in_view, true)) begin_view(i, view);
    fill_view(i, now, view);
    view.costs = costs ? costs : engines_[i].watch.costs();
    view.hit_tokens = group.hits[i];
    view.waiting_ahead_tokens = tokens_ahead(group, i, now);
    view.local_share = all > 0 ? local_share(i, *rows, all) : std::nullopt;
    view.room = !group.tried[i] && has_room(i, group.uncached_on(i));
  }
  close_excluded(group, now);
  // Where all that is left seems full, those that were not tried may say so themselves: a rule that
  // sees no room anywhere takes any engine, and one that was tried before would be tried for ever.
  const bool any = std::any_of(views_.begin(), views_.end(),
                               [](const policy::EngineView& view) { return view.room; });
  const bool again = std::find(group.tried.begin(), group.tried.end(), true) != group.tried.end();
  if (again && !any) {
    for (std::size_t i = 0; i < engines_.size(); ++i)
      views_[i].room = !group.tried[i];
    close_excluded(group, now);
  }
  return views_;
}

}  // namespace gimbal::cluster
