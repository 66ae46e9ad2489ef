#include "sim/event_queue.h"

#include <algorithm>

#include "base/check.h"

namespace gimbal::sim {

void EventQueue::at(TimePoint time, EventTarget& target, std::uint64_t what) {
  GIMBAL_CHECK(time >= clock_.now(), "an event in the past");
  heap_.push_back({.time = time, .number = inserted_++, .target = &target, .what = what});
  std::push_heap(heap_.begin(), heap_.end(), Later{});
}

bool EventQueue::run_one() {
  if (heap_.empty()) return false;
  std::pop_heap(heap_.begin(), heap_.end(), Later{});
  const Entry next = heap_.back();
  heap_.pop_back();
  clock_.set(next.time);
  ++handled_;
  next.target->on_event(next.what);
  return true;
}

void EventQueue::skip_to(TimePoint time) {
  GIMBAL_CHECK(heap_.empty() || heap_.front().time >= time, "an event would be left behind");
  clock_.set(time);
}

}  // namespace gimbal::sim
