#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"

namespace gimbal::sim {

// Who is woken by the queue.
class EventTarget {
 public:
  virtual ~EventTarget() = default;
  // `what` is what was given to EventQueue::at.
  virtual void on_event(std::uint64_t what) = 0;
};

// Virtual time: events in order of their times, those of one time in the order in which they were
// put in. Time stands still while an event is handled. Nothing is taken out early: a target that
// has changed its mind ignores what comes (a number in `what` tells). O(log n) an event; allocates
// only to grow. One thread; targets must outlive their events.
class EventQueue {
 public:
  // Requires: time not before now().
  void at(TimePoint time, EventTarget& target, std::uint64_t what);
  // Goes on to the next event and handles it. False: there is none.
  bool run_one();
  // Time goes on to `time` without an event. Requires: none is due before; not before now().
  void skip_to(TimePoint time);
  // When the next event is due. nullopt: there is none.
  [[nodiscard]] std::optional<TimePoint> next() const {
    return heap_.empty() ? std::nullopt : std::optional(heap_.front().time);
  }

  [[nodiscard]] TimePoint now() const { return clock_.now(); }
  [[nodiscard]] const Clock& clock() const { return clock_; }
  [[nodiscard]] bool empty() const { return heap_.empty(); }
  [[nodiscard]] std::uint64_t handled() const { return handled_; }

 private:
  struct Entry {
    TimePoint time{};
    std::uint64_t number = 0;  // of insertion
    EventTarget* target = nullptr;
    std::uint64_t what = 0;
  };
  // Of two entries, whether the first comes later: for a heap with the earliest at its front.
  struct Later {
    bool operator()(const Entry& a, const Entry& b) const {
      return a.time != b.time ? a.time > b.time : a.number > b.number;
    }
  };

  ManualClock clock_;
  std::vector<Entry> heap_;
  std::uint64_t inserted_ = 0;
  std::uint64_t handled_ = 0;
};

}  // namespace gimbal::sim
