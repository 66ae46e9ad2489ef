#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "comm/in_process/doorbell.h"

namespace gimbal::engine {

// The threads that look after each other, by place: the bell that each rests on, what shows that it
// lives, and whether it is gone. Thread-safe. It must outlive the threads.
class LifeSigns {
 public:
  // Requires: places >= 1.
  explicit LifeSigns(int places) : places_(static_cast<std::size_t>(places)) {}

  [[nodiscard]] int places() const { return static_cast<int>(places_.size()); }
  [[nodiscard]] comm::Doorbell& bell(int place) { return at(place).bell; }

  // A sign of life of the thread.
  void beat(int place) { at(place).beats.fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t beats(int place) const {
    return at(place).beats.load(std::memory_order_relaxed);
  }

  // The thread has ended or was declared dead: nobody looks after it any more. True the first time.
  bool retire(int place) {
    if (at(place).gone.exchange(true)) return false;
    gone_.fetch_add(1);
    return true;
  }
  // Who is to know of those that go from now on, on the thread that finds out.
  void on_retired(std::function<void(int place)> listener) {
    const std::lock_guard lock(mutex_);
    listener_ = std::move(listener);
  }
  // Lets the listener know, after retire(): when all is ready for it.
  void announce(int place) {
    std::function<void(int)> listener;
    {
      const std::lock_guard lock(mutex_);
      listener = listener_;
    }
    if (listener) listener(place);
  }
  [[nodiscard]] bool alive(int place) const { return !at(place).gone.load(); }
  [[nodiscard]] bool anybody_gone() const { return gone_.load() > 0; }
  [[nodiscard]] bool anybody_left() const { return gone_.load() < places(); }

 private:
  struct alignas(64) Place {
    comm::Doorbell bell;
    std::atomic<std::uint64_t> beats{0};
    std::atomic<bool> gone{false};
  };
  [[nodiscard]] Place& at(int place) { return places_[static_cast<std::size_t>(place)]; }
  [[nodiscard]] const Place& at(int place) const {
    return places_[static_cast<std::size_t>(place)];
  }

  std::vector<Place> places_;
  std::atomic<int> gone_{0};
  std::mutex mutex_;
  std::function<void(int)> listener_;  // guarded by mutex_
};

}  // namespace gimbal::engine
