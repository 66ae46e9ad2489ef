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

// A record has a view of every engine: of many engines fewer are kept, some 50 MB of them at most.
constexpr std::size_t kMostLoggedViews = 65'536;

std::size_t kept_records(const DispatcherOptions& options) {
  const auto engines = static_cast<std::size_t>(options.engines);
  return std::min(options.log_records, std::max<std::size_t>(1, kMostLoggedViews / engines));
}

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
      known_(options_, *rules_.order),
      users_(options.users),
      log_(kept_records(options)),
      queue_(options_, *rules_.order) {
  if (recorder_ == nullptr) return;
  recorder_->header(options_);
  on_order(nullptr);
}

void Dispatcher::on_order(std::function<void(TimePoint, const sched::OrderDecision&)> listener) {
  if (recorder_ == nullptr) return queue_.on_order(std::move(listener));
  queue_.on_order([recorder = recorder_, listener = std::move(listener)](
                      TimePoint now, const sched::OrderDecision& decision) {
    recorder->order(now, decision);
    if (listener) listener(now, decision);
  });
}

void Dispatcher::note_snapshot(EngineId engine, const EngineSnapshot& snapshot) {
  if (!known_.note_snapshot(engine, snapshot)) return;
  if (recorder_ != nullptr) recorder_->snapshot(engine, snapshot);
}

void Dispatcher::note_prefix(EngineId engine, std::span<const kv::PrefixEvent> events) {
  if (events.empty()) return;
  if (recorder_ != nullptr) recorder_->prefix(engine, events);
  known_.note_prefix(engine, events);
}

void Dispatcher::note_expert_pressure(EngineId engine, std::optional<double> pressure) {
  if (recorder_ != nullptr) recorder_->expert_pressure(engine, pressure);
  known_.note_expert_pressure(engine, pressure);
}

void Dispatcher::note_expert_map(EngineId engine, std::uint64_t fingerprint) {
  if (recorder_ != nullptr) recorder_->expert_map(engine, fingerprint);
  known_.note_expert_map(engine, fingerprint);
}

void Dispatcher::note_health(EngineId engine, bool healthy, TimePoint now) {
  if (recorder_ != nullptr) recorder_->health(engine, healthy, now);
  known_.note_health(engine, healthy, now);
}

void Dispatcher::note_first_token(RequestId request) {
  if (recorder_ != nullptr) recorder_->first_token(request);
  if (const auto sent = sent_.find(request); sent != sent_.end()) {
    known_.note_first_token(sent->second.engine, request);
  }
}

void Dispatcher::note_end(RequestId request) {
  if (recorder_ != nullptr) recorder_->end(request);
  end(request);
}

void Dispatcher::note_expert_rows(RequestId request, const ExpertRows& rows) {
  if (recorder_ != nullptr) recorder_->expert_rows(request, rows);
  const auto sent = sent_.find(request);
  if (sent == sent_.end() || known_.at(sent->second.engine).expert_map != rows.map) return;
  users_.note_expert_rows(sent->second.user, rows);
}

void Dispatcher::end(RequestId request) {
  queue_.erase(request);
  const auto sent = sent_.find(request);
  if (sent == sent_.end()) return;
  known_.note_end(sent->second.engine, request);
  sent_.erase(sent);
}

std::vector<RequestId> Dispatcher::requests_of(EngineId engine) const {
  std::vector<RequestId> requests;
  for (const auto& [request, sent] : sent_) {
    if (sent.engine == engine) requests.push_back(request);
  }
  std::sort(requests.begin(), requests.end());
  return requests;
}

std::optional<EngineId> Dispatcher::engine_of(RequestId request) const {
  const auto sent = sent_.find(request);
  if (sent == sent_.end()) return std::nullopt;
  return sent->second.engine;
}

// Engines that are gone count only where no other is left.
Result<void> Dispatcher::check_bounds(const DispatchGroup& group, TimePoint now) const {
  const bool pinned = group.requests.front().pinned_engine >= 0;
  const bool any_left = known_.anybody_left(group, now);
  double waiting = queue_.prefill_tokens();
  double most = 0;
  bool unbounded = false;
  bool room = false;
  for (std::size_t i = 0; i < known_.size(); ++i) {
    if (pinned && group.tried[i]) continue;  // only its own engine's queue matters
    if (any_left && known_.excluded(i, now)) continue;
    waiting += known_.waiting_tokens(i);
    most += known_.most_waiting(i);
    unbounded = unbounded || known_.most_waiting(i) <= 0;
    room = room || (!group.tried[i] && known_.has_room(i, group.prefill_tokens));
  }
  const bool fits =
      options_.late ? unbounded || waiting <= 0 || waiting + group.prefill_tokens <= most : room;
  if (fits) return {};
  return Error{ErrorCode::kResourceExhausted,
               fmt::format("the queue is full: {:.0f} prompt tokens wait, at most {:.0f} may",
                           waiting, most)};
}

Result<void> Dispatcher::submit(std::vector<sched::Request> requests, TimePoint now) {
  const sched::Request& first = requests.front();
  const auto of_its_class = [&](const sched::Request& each) {
    return each.request_class == first.request_class;
  };
  if (!std::ranges::all_of(requests, of_its_class))
    return invalid_argument("requests of a group must be of one class", "request_class");
  if (recorder_ != nullptr) recorder_->submit(requests, now);
  const int pinned = first.pinned_engine;
  if (pinned >= options_.engines) {
    return invalid_argument(fmt::format("a request must be pinned to one of the engines 0 to {}, "
                                        "is to {}",
                                        options_.engines - 1, pinned),
                            "pinned_engine");
  }
  DispatchGroup group = make_group(std::move(requests), traits());
  group.arrival = now;
  group.tried.assign(known_.size(), pinned >= 0);
  if (pinned >= 0) group.tried[static_cast<std::size_t>(pinned)] = false;
  known_.find_hits(group);
  GIMBAL_RETURN_IF_ERROR(check_bounds(group, now));
  const int job_tokens = prepare(group);
  queue_.advance(now);
  queue_.push(std::move(group), job_tokens, known_.prefill_cost());
  return {};
}

int Dispatcher::prepare(DispatchGroup& group) {
  for (const sched::Request& request : group.requests)
    GIMBAL_CHECK(!sent_.contains(request.id), "a request came twice");
  group.number = ++groups_;
  const int longest = *std::max_element(group.hits.begin(), group.hits.end());
  return static_cast<int>(std::max(1.0, group.prefill_tokens - longest));
}

bool Dispatcher::cancel_queued(RequestId request) {
  if (recorder_ != nullptr) recorder_->cancel(request);
  return queue_.erase(request);
}

policy::DispatchRequest Dispatcher::describe(const DispatchGroup& group) const {
  const StickyUsers::User user = users_.look(group.user, group.arrival);
  policy::DispatchRequest request{.prompt_tokens = group.prefill_tokens,
                                  .first_tokens = group.own_tokens.front(),
                                  .prompt_pages = group.pages,
                                  .choices = static_cast<int>(group.requests.size()),
                                  .best_effort = group.best_effort(),
                                  .return_probability = user.return_probability,
                                  .mean_return_ms = user.mean_return_ms};
  if (const int pinned = group.requests.front().pinned_engine; pinned >= 0) request.pinned = pinned;
  if (user.engine) request.last_engine = user.engine->value();
  return request;
}

std::optional<Dispatched> Dispatcher::next(TimePoint now) {
  if (queue_.empty()) return std::nullopt;
  if (recorder_ != nullptr) recorder_->next(now);
  queue_.advance(now);
  for (const bool best_effort : {false, true}) {
    DispatchGroup* const group = queue_.front(best_effort);
    if (group == nullptr) continue;
    known_.find_hits(*group);  // caches have changed since it came
    known_.show(*group, users_.expert_rows(group->user, now), now);
    const policy::DispatchRequest request = describe(*group);
    // Where all that it has not tried are gone, waiting would not help.
    const bool waits = options_.late && known_.anybody_left(*group, now);
    const auto why = waits ? known_.limit_to_soon(request) : policy::LateHold::kNone;
    if (why == policy::LateHold::kNone) return decide(*group, request, now);
    hold(*group, request, why, now);
    if (why == policy::LateHold::kPages) break;  // best-effort work would take the pages
  }
  return std::nullopt;
}

void Dispatcher::hold(const DispatchGroup& group, const policy::DispatchRequest& request,
                      policy::LateHold why, TimePoint now) {
  const Held held{group.number, why};
  if (std::exchange(held_[group.best_effort() ? 1 : 0], held) == held) return;
  decision_.engine = -1;
  decision_.reason = policy::reason_of(why);
  decision_.scores.clear();
  record(group, request, now);
}

Dispatched Dispatcher::decide(const DispatchGroup& group, const policy::DispatchRequest& request,
                              TimePoint now) {
  const std::uint64_t turn = turns_++;
  rules_.dispatch->choose({.request = request,
                           .engines = known_.shown(),
                           .turn = turn,
                           .random = hash_combine(options_.seed, turn)},
                          decision_);
  record(group, request, now);
  const EngineId engine{static_cast<EngineId::rep>(decision_.engine)};
  DispatchGroup taken = queue_.bind_front(group.best_effort());
  send(taken, engine);
  return Dispatched{.engine = engine,
                    .group = std::move(taken.requests),
                    .tried = std::move(taken.tried),
                    .arrival = taken.arrival};
}

void Dispatcher::send(DispatchGroup& group, EngineId engine) {
  ++sequence_;
  double hit = group.hits[static_cast<std::size_t>(engine.value())];
  for (std::size_t i = 0; i < group.requests.size(); ++i) {
    sched::Request& request = group.requests[i];
    request.dispatch_sequence = sequence_;
    if (options_.late) request.arrival = group.arrival;
    const double cached = std::min(hit, group.own_tokens[i] - 1);
    hit -= std::max(0.0, cached);
    const double tokens = group.own_tokens[i] - std::max(0.0, cached);
    known_.note_sent(engine,
                     {.request = request.id,
                      .sequence = sequence_,
                      .prefill_tokens = tokens,
                      .pages = std::ceil(tokens / options_.page_tokens),
                      .best_effort = request.request_class == sched::RequestClass::kBestEffort});
    sent_.emplace(request.id, Sent{.engine = engine, .user = group.user});
  }
  users_.note(group.user, engine, group.arrival);
}

void Dispatcher::record(const DispatchGroup& group, const policy::DispatchRequest& request,
                        TimePoint now) {
  ++decisions_;
  if (!listener_ && recorder_ == nullptr && !log_.keeps_records()) {
    return log_.count(decision_.reason);
  }
  const std::uint64_t turn = turns_ == 0 ? 0 : turns_ - 1;
  DecisionRecord made = log_.take_oldest();
  made.number = decisions_;
  made.time = now;
  made.requests.clear();
  for (const sched::Request& each : group.requests)
    made.requests.push_back(each.id);
  made.user = group.user;
  made.rule = options_.rule;
  made.options = options_.rule_options;
  made.request = request;
  made.engines = known_.shown();
  made.turn = turn;
  made.random = hash_combine(options_.seed, turn);
  if (options_.late) made.late_steps = options_.late_steps;
  made.engine = decision_.engine;
  made.reason = decision_.reason;
  made.scores = decision_.scores;
  if (listener_) listener_(made);
  if (recorder_ != nullptr) recorder_->decision(made);
  log_.add(std::move(made));
}

bool Dispatcher::give_back(Dispatched& dispatched) {
  if (recorder_ != nullptr) recorder_->give_back(dispatched);
  for (const sched::Request& request : dispatched.group)
    end(request.id);
  std::vector<bool> tried = dispatched.tried;
  tried.resize(known_.size());
  tried[static_cast<std::size_t>(dispatched.engine.value())] = true;
  if (std::find(tried.begin(), tried.end(), false) == tried.end()) return false;
  DispatchGroup group = make_group(std::move(dispatched.group), traits());
  group.tried = std::move(tried);
  group.arrival = dispatched.arrival;
  known_.find_hits(group);
  const int job_tokens = prepare(group);
  queue_.push_back(std::move(group), job_tokens, known_.prefill_cost());
  return true;
}

}  // namespace gimbal::cluster
