#include "sim/serving_cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace gimbal::sim {
namespace {

constexpr int kKindBits = 2;

}  // namespace

ServingCluster::ServingCluster(SimulatedClusterOptions options, RequestBook& book)
    : options_(std::move(options)), book_(book), rng_(hash_combine(options_.seed, 0x51)) {}

Result<std::unique_ptr<ServingCluster>> ServingCluster::make(SimulatedClusterOptions options,
                                                             RequestBook& book) {
  std::unique_ptr<ServingCluster> cluster(new ServingCluster(std::move(options), book));
  GIMBAL_RETURN_IF_ERROR(cluster->build());
  return cluster;
}

Result<void> ServingCluster::build() {
  GIMBAL_CHECK(!options_.groups.empty());
  cluster::DispatcherOptions dispatch = options_.dispatch;
  const sched::StepLoopOptions& scheduler = options_.groups.front().options.scheduler;
  cluster::match_scheduler(dispatch, scheduler);
  max_model_len_ = scheduler.max_model_len;
  vocab_size_ = scheduler.vocab_size;
  for (std::size_t g = 0; g < options_.groups.size(); ++g) {
    SimulatedClusterOptions::Group& group = options_.groups[g];
    group.options.first_engine = EngineId{static_cast<EngineId::rep>(places_.size())};
    group.options.scheduler.record_prefix_events = true;
    group.options.scheduler.keep_prefix_tokens = false;
    group.options.scheduler.profile_queues = true;
    for (int rank = 0; rank < group.options.ranks; ++rank) {
      places_.push_back({.group = static_cast<int>(g), .rank = Rank{rank}});
      dispatch.groups.push_back(static_cast<int>(g));
    }
    max_model_len_ = std::min<std::int64_t>(max_model_len_, group.options.scheduler.max_model_len);
  }
  dispatch.engines = size();
  if (options_.groups.size() == places_.size()) dispatch.groups.clear();
  late_prefix_.resize(places_.size());
  GIMBAL_RETURN_IF_ERROR(check_script());
  GIMBAL_ASSIGN_OR_RETURN(dispatcher_,
                          cluster::Dispatcher::make(dispatch, options_.dispatch_recorder));
  if (options_.on_decision) dispatcher_->on_decision(options_.on_decision);
  if (options_.on_orders) {
    dispatcher_->on_order([this](TimePoint now, const sched::OrderDecision& decision) {
      options_.on_orders(std::nullopt, now, {&decision, 1});
    });
  }
  for (const SimulatedClusterOptions::Group& group : options_.groups) {
    GIMBAL_ASSIGN_OR_RETURN(groups_.emplace_back(),
                            SimulatedGroup::make(group.options, {.queue = queue_,
                                                                 .model = group.hardware->model,
                                                                 .routing = group.hardware->routing,
                                                                 .loads = group.hardware->loads,
                                                                 .map = group.hardware->map,
                                                                 .text = book_,
                                                                 .cluster = *this,
                                                                 .recorders = options_.recorders,
                                                                 .trace = options_.trace}));
  }
  for (int i = 0; i < size(); ++i)
    note_change(EngineId{i});
  return {};
}

Result<void> ServingCluster::check_script() const {
  for (std::size_t i = 0; i < options_.script.size(); ++i) {
    const ScriptEvent& event = options_.script[i];
    if (event.engine.value() >= 0 && event.engine.value() < size()) continue;
    return invalid_argument(fmt::format("script[{}].engine must be from 0 to {}, is {}", i,
                                        size() - 1, event.engine.value()),
                            "script");
  }
  return {};
}

SimulatedEngine& ServingCluster::engine(int index) {
  const Place& place = places_[static_cast<std::size_t>(index)];
  return groups_[static_cast<std::size_t>(place.group)]->engine(place.rank);
}

void ServingCluster::schedule(Duration at, EventKind kind, std::uint64_t value) {
  queue_.at(TimePoint{at}, *this, (value << kKindBits) | kind);
}

void ServingCluster::start() {
  for (std::size_t i = 0; i < options_.script.size(); ++i) {
    const ScriptEvent& event = options_.script[i];
    if (event.kind == ScriptEvent::Kind::kStart) {
      engine(event.engine.value()).set_draining(true);
      set_down(event.engine, true);
    }
    schedule(event.at, kScript, i);
  }
}

bool ServingCluster::run_until(TimePoint time, std::size_t most_events) {
  for (std::size_t i = 0; i < most_events; ++i) {
    const auto next = queue_.next();
    if (!next || *next > time) {
      queue_.skip_to(time);
      return true;
    }
    queue_.run_one();
  }
  return false;
}

void ServingCluster::on_event(std::uint64_t what) {
  const auto value = static_cast<std::size_t>(what >> kKindBits);
  switch (static_cast<EventKind>(what & ((1U << kKindBits) - 1))) {
    case kScript:
      return play(options_.script[value]);
    case kNotice:
      return notice_failure(EngineId{static_cast<EngineId::rep>(value)});
    case kSignal:
      return take_signal(value);
  }
}

Result<void> ServingCluster::submit(std::vector<sched::Request> group) {
  fetch();
  GIMBAL_RETURN_IF_ERROR(dispatcher_->submit(std::move(group), queue_.now()));
  send_all();
  return {};
}

bool ServingCluster::submit_to(EngineId id, std::vector<sched::Request> group) {
  SimulatedEngine& own = engine(id.value());
  if (!own.accepts()) return false;
  for (const sched::Request& request : group)
    book_.on_sent(request.id, id);
  own.submit(std::move(group));
  return true;
}

void ServingCluster::cancel(RequestId request) {
  const Error why{ErrorCode::kCancelled, "cancelled"};
  if (dispatcher_->cancel_queued(request)) {
    end(request, RequestEnd::kCancelled, why);
    fetch();
    send_all();  // others may have waited behind it
  } else if (const auto id = dispatcher_->engine_of(request)) {
    SimulatedEngine& at = engine(id->value());
    if (!at.failed()) return at.cancel(request);
    dispatcher_->note_end(request);  // the engine says nothing any more
    end(request, RequestEnd::kCancelled, why);
  }
}

// Sends what the dispatcher binds. What an engine says meanwhile may bind more.
void ServingCluster::send_all() {
  if (sending_) return;
  sending_ = true;
  while (auto dispatched = dispatcher_->next(queue_.now()))
    send(*dispatched);
  sending_ = false;
}

void ServingCluster::send(cluster::Dispatched& dispatched) {
  SimulatedEngine& to = engine(dispatched.engine.value());
  if (!to.accepts()) {
    dispatcher_->note_health(dispatched.engine, false, queue_.now());
    return give_back_or_end(dispatched, RequestEnd::kFailed,
                            {ErrorCode::kUnavailable, "no engine takes requests"});
  }
  const bool again =
      std::find(dispatched.tried.begin(), dispatched.tried.end(), true) != dispatched.tried.end();
  for (const sched::Request& request : dispatched.group) {
    book_.on_sent(request.id, dispatched.engine);
    if (again) tried_[request.id] = dispatched.tried;
  }
  to.submit(std::move(dispatched.group));
}

void ServingCluster::give_back_or_end(cluster::Dispatched& dispatched, RequestEnd how,
                                      const Error& why) {
  if (dispatcher_->give_back(dispatched)) return;
  for (const sched::Request& request : dispatched.group) {
    dispatcher_->note_end(request.id);
    end(request.id, how, why);
  }
}

// The engine has it no more and has said nothing of it: another one may take it.
void ServingCluster::retry(EngineId from, RequestId request, RequestEnd otherwise,
                           const Error& why) {
  cluster::Dispatched back{
      .engine = from, .group = {}, .tried = {}, .arrival = book_.arrival(request)};
  if (const auto tried = tried_.find(request); tried != tried_.end()) back.tried = tried->second;
  back.group.push_back(book_.request(request));
  book_.on_sent(request, EngineId{-1});
  give_back_or_end(back, otherwise, why);
}

void ServingCluster::end(RequestId request, RequestEnd how, const Error& why) {
  book_.on_end(request, how, why);
  if (!tried_.empty()) tried_.erase(request);
}

void ServingCluster::note(sched::TokenNews& news) {
  const RequestId request = news.request;
  const bool ends = news.finish.has_value();
  const bool first = book_.on_news(news);
  if (!ends) {
    if (first) dispatcher_->note_first_token(request);
    return;
  }
  if (*news.finish == sched::FinishReason::kLength || *news.finish == sched::FinishReason::kStop)
    note_expert_rows(request);
  dispatcher_->note_end(request);
  if (!tried_.empty()) tried_.erase(request);
}

// Those to be expected, for nobody knows which experts the rows of one request chose.
void ServingCluster::note_expert_rows(RequestId request) {
  const auto id = dispatcher_->engine_of(request);
  if (!id) return;  // it went past the dispatcher
  const Place& place = places_[static_cast<std::size_t>(id->value())];
  SimulatedGroup& group = *groups_[static_cast<std::size_t>(place.group)];
  if (!group.shares_experts()) return;
  dispatcher_->note_expert_rows(request, group.expected_rows(book_.topic_of(request)));
}

void ServingCluster::on_outputs(SimulatedEngine& from, sched::Outputs& outputs) {
  for (sched::TokenNews& news : outputs.news)
    note(news);
  if (options_.on_orders && !outputs.ordered.empty()) {
    options_.on_orders(from.id(), queue_.now(), outputs.ordered);
  }
  bool changed = !outputs.news.empty();
  for (const sched::Refusal& refusal : outputs.refusals) {
    changed = true;
    if (refusal.error.code == ErrorCode::kResourceExhausted) {
      retry(from.id(), refusal.request, RequestEnd::kRefused, refusal.error);
    } else {
      dispatcher_->note_end(refusal.request);
      end(refusal.request, RequestEnd::kTooLong, refusal.error);
    }
  }
  if (options_.signals.instant()) {
    note_change(from.id());
  } else {
    publish(from);
  }
  if (!changed || dispatcher_->queued_groups() == 0) return;
  fetch();
  send_all();
}

}  // namespace gimbal::sim
