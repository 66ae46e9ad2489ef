#include "cluster/dispatcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "cluster/dispatch_recorder.h"
#include "sched/request_group.h"

namespace gimbal::cluster {
namespace {

constexpr Duration kCountsAge = std::chrono::milliseconds(100);  // of `vllm`'s counts
constexpr Duration kLongestExclusion = std::chrono::hours(1);
constexpr std::size_t kUserTokens = 256;  // of a prompt, that stand for an unknown user

std::uint64_t user_of(const sched::Request& request) {
  if (request.user_key != 0) return request.user_key;
  const std::span<const TokenId> prompt(request.prompt);
  return hash_tokens(prompt.first(std::min(prompt.size(), kUserTokens)), request.cache_salt);
}

double pages_of(double tokens, int page_tokens) {
  return std::ceil(tokens / page_tokens);
}

}  // namespace

Result<std::unique_ptr<Dispatcher>> Dispatcher::make(const DispatcherOptions& options,
                                                     DispatchRecorder* recorder) {
  if (options.engines < 1) {
    return invalid_argument(fmt::format("engines must be at least 1, are {}", options.engines),
                            "engines");
  }
  if (!(options.late_steps >= 0)) {
    return invalid_argument(fmt::format("late_steps must be at least 0, is {}", options.late_steps),
                            "late_steps");
  }
  if (!options.groups.empty() &&
      options.groups.size() != static_cast<std::size_t>(options.engines)) {
    return invalid_argument(fmt::format("groups must be one an engine, are {} for {}",
                                        options.groups.size(), options.engines),
                            "groups");
  }
  if (options.page_tokens < 1) {
    return invalid_argument(
        fmt::format("page_tokens must be at least 1, is {}", options.page_tokens), "page_tokens");
  }
  const EngineWatchOptions& watch = options.watch;
  if (options.users.most_users < 1) {
    return invalid_argument("most_users must be at least 1, is 0", "most_users");
  }
  if (watch.first_exclusion < Duration::zero() || watch.longest_exclusion < Duration::zero() ||
      watch.longest_exclusion > kLongestExclusion) {
    return invalid_argument("exclusions must be from 0 to an hour", "longest_exclusion");
  }
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
      mirror_(options.engines, options.page_tokens, options.model_salt),
      users_(options.users),
      log_(options.log_records) {
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
  known.ledger.seen(known.watch.snapshot()->dispatch_sequence);
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
  int fitted = 0;
  for (const Engine& engine : engines_) {
    const auto costs = engine.watch.costs();
    if (!costs || !(costs->prefill_token_ms() > 0)) continue;
    sum += costs->prefill_token_ms();
    ++fitted;
  }
  if (fitted > 0) cost.ms_per_token = sum / fitted;
  return cost;
}

Dispatcher::Group Dispatcher::make_group(std::vector<sched::Request> requests) {
  GIMBAL_CHECK(!requests.empty());
  Group group;
  group.requests = std::move(requests);
  group.user = user_of(group.requests.front());
  const sched::Request* ahead = nullptr;
  for (const sched::Request& request : group.requests) {
    double tokens = static_cast<double>(request.prompt.size());
    if (options_.prefix_caching && ahead != nullptr && ahead->cache_salt == request.cache_salt &&
        !request.sampling.prompt_logprobs) {
      tokens -= sched::shared_prefix_tokens(ahead->prompt, request.prompt, options_.page_tokens);
    }
    group.own_tokens.push_back(tokens);
    group.prefill_tokens += tokens;
    group.pages += pages_of(tokens, options_.page_tokens);
    ahead = &request;
  }
  group.tried.assign(engines_.size(), false);
  return group;
}

// What a request shares with the one before it counts once: only the hits of the first of equal
// prompts are added.
void Dispatcher::find_hits(Group& group) {
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

double Dispatcher::uncached_on(const Group& group, std::size_t engine) const {
  return std::max(1.0, group.prefill_tokens - group.hits[engine]);
}

double Dispatcher::waiting_tokens(const Engine& engine) const {
  const auto& snapshot = engine.watch.snapshot();
  const double seen = snapshot ? static_cast<double>(snapshot->waiting_prefill_tokens) : 0;
  return seen + engine.ledger.counts().unseen_prefill_tokens;
}

// 0: not known, and so none.
double Dispatcher::bound(const Engine& engine) const {
  const auto& snapshot = engine.watch.snapshot();
  return snapshot ? static_cast<double>(snapshot->max_waiting_prefill_tokens) : 0;
}

bool Dispatcher::has_room(const Engine& engine, double prefill_tokens) const {
  const double most = bound(engine);
  const double waiting = waiting_tokens(engine);
  return most <= 0 || waiting <= 0 || waiting + prefill_tokens <= most;
}

Result<void> Dispatcher::check_bounds(const Group& group) const {
  double waiting = queued_tokens_;
  double most = 0;
  bool unbounded = false;
  bool room = false;
  for (const Engine& engine : engines_) {
    waiting += waiting_tokens(engine);
    most += bound(engine);
    unbounded = unbounded || bound(engine) <= 0;
    room = room || has_room(engine, group.prefill_tokens);
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
  Group group = make_group(std::move(requests));
  group.arrival = now;
  find_hits(group);
  GIMBAL_RETURN_IF_ERROR(check_bounds(group));
  group.number = ++groups_;
  enqueue(std::move(group));
  return {};
}

void Dispatcher::enqueue(Group group) {
  const int longest = *std::max_element(group.hits.begin(), group.hits.end());
  const double job = prefill_cost().ms(std::max(1.0, group.prefill_tokens - longest));
  const sched::Request& first = group.requests.front();
  const Place place{first.request_class == sched::RequestClass::kBestEffort,
                    rules_.order->key({.arrival = group.arrival,
                                       .job_ms = job,
                                       .priority = first.priority,
                                       .aging = std::nullopt}),
                    group.number};
  queued_tokens_ += group.prefill_tokens;
  for (const sched::Request& request : group.requests) {
    const bool added = queued_.emplace(request.id, place).second;
    GIMBAL_CHECK(added && !sent_.contains(request.id), "a request came twice");
  }
  queue_.emplace(place, std::move(group));
}

Dispatcher::Group Dispatcher::take_from_queue(std::map<Place, Group>::iterator at) {
  Group group = std::move(at->second);
  queue_.erase(at);
  queued_tokens_ -= group.prefill_tokens;
  for (const sched::Request& request : group.requests)
    queued_.erase(request.id);
  return group;
}

bool Dispatcher::cancel_queued(RequestId request) {
  if (recorder_ != nullptr) recorder_->cancel(request);
  return take_out(request);
}

bool Dispatcher::take_out(RequestId request) {
  const auto found = queued_.find(request);
  if (found == queued_.end()) return false;
  Group group = take_from_queue(queue_.find(found->second));
  std::erase_if(group.requests, [&](const sched::Request& each) { return each.id == request; });
  if (group.requests.empty()) return true;
  Group rest = make_group(std::move(group.requests));
  rest.tried = std::move(group.tried);
  rest.arrival = group.arrival;
  rest.number = group.number;
  find_hits(rest);
  enqueue(std::move(rest));
  return true;
}

std::vector<RequestId> Dispatcher::queued_requests() const {
  std::vector<RequestId> ids;
  for (const auto& [place, group] : queue_) {
    for (const sched::Request& request : group.requests)
      ids.push_back(request.id);
  }
  return ids;
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

void Dispatcher::fill_view(std::size_t index, TimePoint now, policy::EngineView& view) const {
  const Engine& engine = engines_[index];
  view.page_tokens = options_.page_tokens;
  engine.watch.fill(now, view);
  if (!options_.groups.empty()) view.group = options_.groups[index];
  view.ledger = engine.ledger.counts();
  view.cached_pages =
      static_cast<double>(mirror_.pages(EngineId{static_cast<EngineId::rep>(index)}));
  view.counted_waiting = engine.counted_waiting;
  view.counted_running = engine.counted_running;
  if (options_.feedback) view.expert_pressure = engine.pressure;
}

policy::EngineView Dispatcher::view(EngineId engine, TimePoint now) const {
  policy::EngineView view;
  view.room = has_room(at(engine), 1);
  fill_view(static_cast<std::size_t>(engine.value()), now, view);
  return view;
}

void Dispatcher::fill_views(const Group& group, TimePoint now) {
  views_.assign(engines_.size(), {});
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    fill_view(i, now, views_[i]);
    views_[i].hit_tokens = group.hits[i];
    views_[i].room = !group.tried[i] && has_room(engines_[i], uncached_on(group, i));
  }
}

// At most late_steps of prefill run before it, and its pages are free.
bool Dispatcher::starts_soon(const policy::EngineView& view, const Group& group) const {
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
bool Dispatcher::limit_to_soon(const Group& group) {
  bool any = false;
  bool all_empty = true;
  for (const policy::EngineView& view : views_) {
    any = any ||
          (view.room && view.freshness != policy::Freshness::kExcluded && starts_soon(view, group));
    all_empty = all_empty && view.ledger.requests == 0;
  }
  if (!any) return all_empty;
  for (policy::EngineView& view : views_)
    view.room = view.room && starts_soon(view, group);
  return true;
}

policy::DispatchRequest Dispatcher::describe(const Group& group, TimePoint now) const {
  const StickyUsers::User user = users_.look(group.user, now);
  policy::DispatchRequest request{
      .prompt_tokens = group.prefill_tokens,
      .prompt_pages = group.pages,
      .choices = static_cast<int>(group.requests.size()),
      .best_effort = group.requests.front().request_class == sched::RequestClass::kBestEffort,
      .return_probability = user.return_probability,
      .mean_return_ms = user.mean_return_ms};
  if (user.engine) request.last_engine = user.engine->value();
  return request;
}

std::optional<Dispatched> Dispatcher::next(TimePoint now) {
  if (queue_.empty()) return std::nullopt;
  if (recorder_ != nullptr) recorder_->next(now);
  const auto head = queue_.begin();
  Group& group = head->second;
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
  Group taken = take_from_queue(head);
  send(taken, engine, now);
  return Dispatched{.engine = engine,
                    .group = std::move(taken.requests),
                    .tried = std::move(taken.tried),
                    .arrival = taken.arrival,
                    .number = taken.number};
}

void Dispatcher::send(Group& group, EngineId engine, TimePoint now) {
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
                        .pages = pages_of(tokens, options_.page_tokens),
                        .best_effort = request.request_class == sched::RequestClass::kBestEffort});
    sent_.emplace(request.id, engine);
  }
  const auto count = group.requests.size();
  chosen.dispatched += count;
  chosen.counted_waiting += static_cast<double>(count);
  users_.note(group.user, engine, now);
}

void Dispatcher::record(const Group& group, const policy::DispatchRequest& request, TimePoint now) {
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
  Group group = make_group(std::move(dispatched.group));
  group.tried = std::move(tried);
  group.arrival = dispatched.arrival;
  group.number = dispatched.number;
  find_hits(group);
  enqueue(std::move(group));
  return true;
}

}  // namespace gimbal::cluster
