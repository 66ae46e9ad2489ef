// What the dispatcher of a simulated cluster gets to know of its engines, and when; and what
// happens to engines.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "sim/serving_cluster.h"

namespace gimbal::sim {

void ServingCluster::fetch() {
  keep_down();
  if (!options_.signals.instant()) return;
  std::sort(changed_.begin(), changed_.end());
  for (const int i : changed_) {
    Place& place = places_[static_cast<std::size_t>(i)];
    place.changed = false;
    SimulatedEngine& each = engine(i);
    if (place.noted == each.version() || each.failed()) continue;
    place.noted = each.version();
    dispatcher_->note_snapshot(each.id(), each.snapshot());
    dispatcher_->note_prefix(each.id(), each.prefix_events());
    each.clear_prefix_events();
    note_experts(each.id());
  }
  changed_.clear();
}

void ServingCluster::note_change(EngineId id) {
  Place& place = places_[static_cast<std::size_t>(id.value())];
  if (place.changed) return;
  place.changed = true;
  changed_.push_back(id.value());
}

// Pressure on the experts of the engine, and where its group has them.
void ServingCluster::note_experts(EngineId id) {
  Place& place = places_[static_cast<std::size_t>(id.value())];
  SimulatedGroup& group = *groups_[static_cast<std::size_t>(place.group)];
  if (group.shares_experts()) {
    const std::uint64_t map = group.expected_rows(0).map;
    if (place.told_map != map) dispatcher_->note_expert_map(id, map);
    place.told_map = map;
  }
  const std::optional<double> pressure = group.pressure(place.rank);
  if (place.told_pressure && pressure == place.pressure) return;
  place.told_pressure = true;
  place.pressure = pressure;
  dispatcher_->note_expert_pressure(id, pressure);
}

// Sends what the engine says of itself now on its way.
void ServingCluster::publish(SimulatedEngine& from) {
  Place& place = places_[static_cast<std::size_t>(from.id().value())];
  if (place.noted == from.version()) return;
  place.noted = from.version();
  std::vector<kv::PrefixEvent>& prefix = late_prefix_[static_cast<std::size_t>(from.id().value())];
  const auto changes = from.prefix_events();
  prefix.insert(prefix.end(), changes.begin(), changes.end());
  from.clear_prefix_events();
  if (options_.signals.loss > 0 && rng_.uniform() < options_.signals.loss) return;
  Signal signal{.engine = from.id(), .snapshot = from.snapshot(), .prefix = std::move(prefix)};
  prefix.clear();
  Duration delay = options_.signals.delay;
  if (options_.signals.jitter > Duration{}) {
    delay += Duration{static_cast<Duration::rep>(
        rng_.uniform() * static_cast<double>(options_.signals.jitter.count()))};
  }
  signals_.push_back(std::move(signal));
  schedule(queue_.now().time_since_epoch() + delay, kSignal, first_signal_ + signals_.size() - 1);
}

// Signals may overtake each other: the dispatcher ignores what is older than what it has.
void ServingCluster::take_signal(std::size_t number) {
  Signal& signal = signals_[number - first_signal_];
  dispatcher_->note_snapshot(signal.engine, signal.snapshot);
  dispatcher_->note_prefix(signal.engine, signal.prefix);
  note_experts(signal.engine);
  signal.taken = true;
  while (!signals_.empty() && signals_.front().taken) {
    signals_.pop_front();
    ++first_signal_;
  }
  if (dispatcher_->queued_groups() == 0) return;
  keep_down();
  send_all();
}

// An engine that is down does not come back by itself: each time that its exclusion ends, it is
// excluded again.
void ServingCluster::keep_down() {
  if (down_ == 0) return;
  for (int i = 0; i < size(); ++i) {
    if (!places_[static_cast<std::size_t>(i)].down) continue;
    if (queue_.now() < dispatcher_->watch(EngineId{i}).excluded_until()) continue;
    dispatcher_->note_health(EngineId{i}, false, queue_.now());
  }
}

void ServingCluster::set_down(EngineId id, bool down) {
  Place& place = places_[static_cast<std::size_t>(id.value())];
  if (place.down == down) return;
  place.down = down;
  down_ += down ? 1 : -1;
  if (!down) dispatcher_->note_health(id, true, queue_.now());
}

void ServingCluster::play(const ScriptEvent& event) {
  const EngineId id = event.engine;
  SimulatedEngine& one = engine(id.value());
  if (one.failed()) return;
  const Place& place = places_[static_cast<std::size_t>(id.value())];
  switch (event.kind) {
    case ScriptEvent::Kind::kFail:
      one.fail();
      schedule(queue_.now().time_since_epoch() + event.noticed_after, kNotice,
               static_cast<std::uint64_t>(id.value()));
      return;
    case ScriptEvent::Kind::kStart:
      one.set_draining(false);
      set_down(id, false);
      break;
    case ScriptEvent::Kind::kStop:
      one.set_draining(true);
      set_down(id, true);
      break;
    case ScriptEvent::Kind::kSlow:
      groups_[static_cast<std::size_t>(place.group)]->set_factor(place.rank, event.factor);
      break;
  }
  if (dispatcher_->queued_groups() == 0) return;
  fetch();
  send_all();
}

void ServingCluster::notice_failure(EngineId id) {
  const Place& place = places_[static_cast<std::size_t>(id.value())];
  set_down(id, true);
  keep_down();
  groups_[static_cast<std::size_t>(place.group)]->bury(place.rank);
  const Error why{ErrorCode::kUnavailable, fmt::format("engine {} failed", id.value())};
  for (const RequestId request : book_.requests_at(id)) {  // pinned ones too
    const auto where = dispatcher_->engine_of(request);
    if (where == id && !book_.told(request)) {
      retry(id, request, RequestEnd::kFailed, why);
    } else if (where == id || !where) {
      dispatcher_->note_end(request);
      end(request, RequestEnd::kFailed, why);
    }
  }
  fetch();
  send_all();
}

}  // namespace gimbal::sim
