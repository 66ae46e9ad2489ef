#include "cluster/dispatcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "cluster/dispatch_recorder.h"

namespace gimbal::cluster {
namespace {

constexpr Duration kCountsAge = std::chrono::milliseconds(100);  // of `vllm`'s counts

}  // namespace

Result<std::unique_ptr<Dispatcher>> Dispatcher::make(const DispatcherOptions& options,
                                                     DispatchRecorder* recorder) {
  GIMBAL_RETURN_IF_ERROR(check_options(options));
  Rules rules;
  GIMBAL_ASSIGN_OR_RETURN(rules.dispatch,
                          policy::make_dispatch(options.rule, options.rule_options));
  GIMBAL_ASSIGN_OR_RETURN(rules.order,
                          policy::make_request_order(options.order, options.order_options));
  return std::unique_ptr<Dispatcher>(new Dispatcher(options, std::move(rules), recorder));
}

Dispatcher::Dispatcher(const DispatcherOptions& options, Rules rules, DispatchRecorder* recorder)
    : options_(options),
      recorder_(recorder),
      rules_(std::move(rules)),
      digests_(static_cast<std::size_t>(options.engines)),
      mirror_(options.engines, options.page_tokens, options.model_salt),
      users_(options.users),
      log_(options.log_records),
      views_(static_cast<std::size_t>(options.engines)) {
  for (int i = 0; i < options.engines; ++i) {
    EngineWatchOptions watch = options.watch;
    watch.seed = hash_combine(options.seed, static_cast<std::uint64_t>(i));
    engines_.push_back({.watch = EngineWatch(watch)});
  }
  if (recorder_ != nullptr) recorder_->header(options_);
}

const Dispatcher::Engine& Dispatcher::at(EngineId engine) const {
  GIMBAL_CHECK(engine.value() >= 0 && engine.value() < options_.engines);
  return engines_[static_cast<std::size_t>(engine.value())];
}

Dispatcher::Engine& Dispatcher::at(EngineId engine) {
  return const_cast<Engine&>(std::as_const(*this).at(engine));
}

void Dispatcher::note_snapshot(EngineId engine, const EngineSnapshot& snapshot) {
  Engine& known = at(engine);
  const auto& newest = known.watch.snapshot();
  if (newest && snapshot.sequence <= newest->sequence) return;
  if (recorder_ != nullptr) recorder_->snapshot(engine, snapshot);
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
}

void Dispatcher::note_prefix(EngineId engine, std::span<const kv::PrefixEvent> events) {
  if (events.empty()) return;
  if (recorder_ != nullptr) recorder_->prefix(engine, events);
  mirror_.note(engine, events);
}

void Dispatcher::note_expert_pressure(EngineId engine, std::optional<double> pressure) {
  if (recorder_ != nullptr) recorder_->expert_pressure(engine, pressure);
  at(engine).pressure = pressure;
}

void Dispatcher::note_health(EngineId engine, bool healthy, TimePoint now) {
  if (recorder_ != nullptr) recorder_->health(engine, healthy, now);
  at(engine).watch.note_health(healthy, now);
}

void Dispatcher::note_first_token(RequestId request) {
  if (recorder_ != nullptr) recorder_->first_token(request);
  if (const auto sent = sent_.find(request); sent != sent_.end()) {
    at(sent->second).ledger.first_token(request);
  }
}

void Dispatcher::note_end(RequestId request) {
  if (recorder_ != nullptr) recorder_->end(request);
  end(request);
}

void Dispatcher::end(RequestId request) {
  take_out(request);
  const auto sent = sent_.find(request);
  if (sent == sent_.end()) return;
  at(sent->second).ledger.end(request);
  sent_.erase(sent);
}

std::vector<RequestId> Dispatcher::requests_of(EngineId engine) const {
  std::vector<RequestId> requests;
  for (const auto& [request, where] : sent_) {
    if (where == engine) requests.push_back(request);
  }
  std::sort(requests.begin(), requests.end());
  return requests;
}

std::optional<EngineId> Dispatcher::engine_of(RequestId request) const {
  const auto sent = sent_.find(request);
  if (sent == sent_.end()) return std::nullopt;
  return sent->second;
}

policy::PrefillCost Dispatcher::prefill_cost() const {
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

// What a request shares with the one before it counts once: only the hits of the first of equal
// prompts are added.
void Dispatcher::find_hits(DispatchGroup& group) {
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

double Dispatcher::waiting_tokens(std::size_t index) const {
  return digests_[index].waiting_tokens + engines_[index].ledger.counts().unseen_prefill_tokens;
}

bool Dispatcher::has_room(std::size_t index, double prefill_tokens) const {
  const double most = digests_[index].most_waiting;
  const double waiting = waiting_tokens(index);
  return most <= 0 || waiting <= 0 || waiting + prefill_tokens <= most;
}

Result<void> Dispatcher::check_bounds(const DispatchGroup& group) const {
  const bool pinned = group.requests.front().pinned_engine >= 0;
  double waiting = queue_.prefill_tokens();
  double most = 0;
  bool unbounded = false;
  bool room = false;
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    if (pinned && group.tried[i]) continue;  // only its own engine's queue matters
    waiting += waiting_tokens(i);
    most += digests_[i].most_waiting;
    unbounded = unbounded || digests_[i].most_waiting <= 0;
    room = room || (!group.tried[i] && has_room(i, group.prefill_tokens));
  }
  const bool fits =
      options_.late ? unbounded || waiting <= 0 || waiting + group.prefill_tokens <= most : room;
  if (fits) return {};
  return Error{ErrorCode::kResourceExhausted,
               fmt::format("the queue is full: {:.0f} prompt tokens wait, at most {:.0f} may",
                           waiting, most)};
}

Result<void> Dispatcher::submit(std::vector<sched::Request> requests, TimePoint now) {
  if (recorder_ != nullptr) recorder_->submit(requests, now);
  const int pinned = requests.front().pinned_engine;
  if (pinned >= options_.engines) {
    return invalid_argument(fmt::format("a request must be pinned to one of the engines 0 to {}, "
                                        "is to {}",
                                        options_.engines - 1, pinned),
                            "pinned_engine");
  }
  DispatchGroup group = make_group(std::move(requests), traits());
  group.arrival = now;
  group.tried.assign(engines_.size(), pinned >= 0);
  if (pinned >= 0) group.tried[static_cast<std::size_t>(pinned)] = false;
  find_hits(group);
  GIMBAL_RETURN_IF_ERROR(check_bounds(group));
  enqueue(std::move(group));
  return {};
}

void Dispatcher::enqueue(DispatchGroup group) {
  for (const sched::Request& request : group.requests)
    GIMBAL_CHECK(!sent_.contains(request.id), "a request came twice");
  const int longest = *std::max_element(group.hits.begin(), group.hits.end());
  const double job = prefill_cost().ms(std::max(1.0, group.prefill_tokens - longest));
  const policy::OrderKey key = rules_.order->key({.arrival = group.arrival,
                                                  .job_ms = job,
                                                  .priority = group.requests.front().priority,
                                                  .aging = std::nullopt});
  group.number = ++groups_;
  queue_.push(std::move(group), key);
}

bool Dispatcher::cancel_queued(RequestId request) {
  if (recorder_ != nullptr) recorder_->cancel(request);
  return take_out(request);
}

bool Dispatcher::take_out(RequestId request) {
  auto group = queue_.take_group_of(request);
  if (!group) return false;
  std::erase_if(group->requests, [&](const sched::Request& each) { return each.id == request; });
  if (group->requests.empty()) return true;
  requeue(std::move(group->requests), std::move(group->tried), group->arrival);
  return true;
}

void Dispatcher::requeue(std::vector<sched::Request> requests, std::vector<bool> tried,
                         TimePoint arrival) {
  DispatchGroup group = make_group(std::move(requests), traits());
  group.tried = std::move(tried);
  group.arrival = arrival;
  find_hits(group);
  enqueue(std::move(group));
}

void Dispatcher::refresh_counts(TimePoint now) {
  if (counted_ && now - counted_at_ < kCountsAge) return;
  counted_ = true;
  counted_at_ = now;
  for (Engine& engine : engines_) {
    const auto& snapshot = engine.watch.snapshot();
    engine.counted_waiting = snapshot ? static_cast<double>(snapshot->waiting_requests) : 0;
    engine.counted_running = snapshot ? static_cast<double>(snapshot->running_requests) : 0;
  }
}

void Dispatcher::begin_view(std::size_t index, policy::EngineView& view) const {
  view = {};
  view.page_tokens = options_.page_tokens;
  engines_[index].watch.fill_said(view);
  if (!options_.groups.empty()) view.group = options_.groups[index];
}

void Dispatcher::fill_view(std::size_t index, TimePoint now, policy::EngineView& view) const {
  const Engine& engine = engines_[index];
  engine.watch.fill_now(now, view);
  view.ledger = engine.ledger.counts();
  view.cached_pages =
      static_cast<double>(mirror_.pages(EngineId{static_cast<EngineId::rep>(index)}));
  view.counted_waiting = engine.counted_waiting;
  view.counted_running = engine.counted_running;
  if (options_.feedback) view.expert_pressure = engine.pressure;
}

// Step costs of the engine that has seen most prompts; nullopt: each engine's own count.
std::optional<policy::StepCosts> Dispatcher::shared_costs() const {
  if (!options_.engines_alike) return std::nullopt;
  const Digest* most = nullptr;
  for (const Digest& digest : digests_) {
    if (!digest.fitted) continue;
    if (most == nullptr || digest.prefill_rows > most->prefill_rows) most = &digest;
  }
  if (most == nullptr) return std::nullopt;
  return engines_[static_cast<std::size_t>(most - digests_.data())].watch.costs();
}

policy::EngineView Dispatcher::view(EngineId engine, TimePoint now) const {
  policy::EngineView view;
  GIMBAL_CHECK(engine.value() >= 0 && engine.value() < options_.engines);
  const auto index = static_cast<std::size_t>(engine.value());
  begin_view(index, view);
  view.room = has_room(index, 1);
  fill_view(index, now, view);
  if (const auto costs = shared_costs()) view.costs = costs;
  return view;
}

// Where the engine's order would put the group's first request, if it came now.
std::optional<double> Dispatcher::tokens_ahead(const DispatchGroup& group, std::size_t index,
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
  const policy::OrderKey key = rules_.order->key({.arrival = now,
                                                  .job_ms = snapshot->prefill_cost.ms(tokens),
                                                  .priority = first.priority,
                                                  .aging = aging});
  return (best_effort ? sensitive : 0) + queue.tokens_before(key);
}

void Dispatcher::fill_views(const DispatchGroup& group, TimePoint now) {
  const std::optional<policy::StepCosts> costs = shared_costs();
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    policy::EngineView& view = views_[i];
    if (!std::exchange(digests_[i].in_view, true)) begin_view(i, view);
    fill_view(i, now, view);
    view.costs = costs ? costs : engines_[i].watch.costs();
    view.hit_tokens = group.hits[i];
    view.waiting_ahead_tokens = tokens_ahead(group, i, now);
    view.room = !group.tried[i] && has_room(i, group.uncached_on(i));
  }
  // Where all that is left seems full, those that were not tried may say so themselves: a rule that
  // sees no room anywhere takes any engine, and one that was tried before would be tried for ever.
  const bool any = std::any_of(views_.begin(), views_.end(),
                               [](const policy::EngineView& view) { return view.room; });
  const bool again = std::find(group.tried.begin(), group.tried.end(), true) != group.tried.end();
  for (std::size_t i = 0; again && !any && i < engines_.size(); ++i)
    views_[i].room = !group.tried[i];
}

// At most late_steps of prefill run before it, and its pages are free.
bool Dispatcher::starts_soon(const policy::EngineView& view, const DispatchGroup& group) const {
  if (view.freshness == policy::Freshness::kLedgerOnly) return view.ledger.requests == 0;
  const double ahead = view.running_prefill_tokens.value_or(0) +
                       view.waiting_prefill_tokens.value_or(0) + view.ledger.unseen_prefill_tokens;
  const double rows = std::max(1.0, view.budget.ceiling - view.decodes.value_or(0));
  if (ahead > options_.late_steps * rows) return false;
  if (!view.pages_total || !view.pages_referenced) return true;
  const double need = group.pages - view.hit_tokens / view.page_tokens;
  return *view.pages_referenced + view.ledger.unseen_pages + need <= *view.pages_total;
}

// False: nobody would start the group soon, so it waits.
bool Dispatcher::limit_to_soon(const DispatchGroup& group) {
  bool any = false;
  bool all_empty = true;
  for (const policy::EngineView& view : views_) {
    any = any ||
          (view.room && view.freshness != policy::Freshness::kExcluded && starts_soon(view, group));
    all_empty = all_empty && view.ledger.requests == 0;
  }
  if (!any) {
    // A group that must go to an engine that is gone fails there; it does not hold up the others.
    const int pinned = group.requests.front().pinned_engine;
    return all_empty || (pinned >= 0 && views_[static_cast<std::size_t>(pinned)].freshness ==
                                            policy::Freshness::kExcluded);
  }
  for (policy::EngineView& view : views_)
    view.room = view.room && starts_soon(view, group);
  return true;
}

policy::DispatchRequest Dispatcher::describe(const DispatchGroup& group, TimePoint now) const {
  const StickyUsers::User user = users_.look(group.user, now);
  policy::DispatchRequest request{.prompt_tokens = group.prefill_tokens,
                                  .prompt_pages = group.pages,
                                  .choices = static_cast<int>(group.requests.size()),
                                  .best_effort = group.best_effort(),
                                  .return_probability = user.return_probability,
                                  .mean_return_ms = user.mean_return_ms};
  if (user.engine) request.last_engine = user.engine->value();
  return request;
}

std::optional<Dispatched> Dispatcher::next(TimePoint now) {
  if (queue_.empty()) return std::nullopt;
  if (recorder_ != nullptr) recorder_->next(now);
  DispatchGroup& group = queue_.front();
  find_hits(group);  // caches have changed since it came
  refresh_counts(now);
  fill_views(group, now);
  if (options_.late && !limit_to_soon(group)) return std::nullopt;
  const policy::DispatchRequest request = describe(group, now);
  const std::uint64_t turn = decisions_++;
  rules_.dispatch->choose({.request = request,
                           .engines = views_,
                           .turn = turn,
                           .random = hash_combine(options_.seed, turn)},
                          decision_);
  record(group, request, now);
  const EngineId engine{static_cast<EngineId::rep>(decision_.engine)};
  DispatchGroup taken = queue_.pop();
  send(taken, engine, now);
  return Dispatched{.engine = engine,
                    .group = std::move(taken.requests),
                    .tried = std::move(taken.tried),
                    .arrival = taken.arrival};
}

void Dispatcher::send(DispatchGroup& group, EngineId engine, TimePoint now) {
  Engine& chosen = at(engine);
  ++sequence_;
  double hit = group.hits[static_cast<std::size_t>(engine.value())];
  for (std::size_t i = 0; i < group.requests.size(); ++i) {
    sched::Request& request = group.requests[i];
    request.dispatch_sequence = sequence_;
    const double cached = std::min(hit, group.own_tokens[i] - 1);
    hit -= std::max(0.0, cached);
    const double tokens = group.own_tokens[i] - std::max(0.0, cached);
    chosen.ledger.send({.request = request.id,
                        .sequence = sequence_,
                        .prefill_tokens = tokens,
                        .pages = std::ceil(tokens / options_.page_tokens),
                        .best_effort = request.request_class == sched::RequestClass::kBestEffort});
    sent_.emplace(request.id, engine);
  }
  const auto count = group.requests.size();
  chosen.dispatched += count;
  chosen.counted_waiting += static_cast<double>(count);
  users_.note(group.user, engine, now);
}

void Dispatcher::record(const DispatchGroup& group, const policy::DispatchRequest& request,
                        TimePoint now) {
  if (!listener_ && recorder_ == nullptr && !log_.keeps_records()) {
    return log_.count(decision_.reason);
  }
  DecisionRecord made{.number = decisions_,
                      .time = now,
                      .requests = {},
                      .user = group.user,
                      .rule = options_.rule,
                      .options = options_.rule_options,
                      .request = request,
                      .engines = views_,
                      .turn = decisions_ - 1,
                      .random = hash_combine(options_.seed, decisions_ - 1),
                      .engine = decision_.engine,
                      .reason = decision_.reason,
                      .scores = decision_.scores};
  for (const sched::Request& each : group.requests)
    made.requests.push_back(each.id);
  if (listener_) listener_(made);
  if (recorder_ != nullptr) recorder_->decision(made);
  log_.add(std::move(made));
}

bool Dispatcher::give_back(Dispatched& dispatched) {
  if (recorder_ != nullptr) recorder_->give_back(dispatched);
  for (const sched::Request& request : dispatched.group)
    end(request.id);
  std::vector<bool> tried = dispatched.tried;
  tried.resize(engines_.size());
  tried[static_cast<std::size_t>(dispatched.engine.value())] = true;
  if (std::find(tried.begin(), tried.end(), false) == tried.end()) return false;
  requeue(std::move(dispatched.group), std::move(tried), dispatched.arrival);
  return true;
}

}  // namespace gimbal::cluster
