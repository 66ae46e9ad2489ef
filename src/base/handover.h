#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace gimbal {

// Items that some threads give and one takes, all at once, in the order in which they were given.
// Without a lock: nobody waits, whoever is slow. Giving allocates; nothing bounds what is given and
// not taken.
//
// Thread rule: give(): any thread. take(): one thread at a time.
template <class T>
class Handover {
 public:
  Handover() = default;
  Handover(const Handover&) = delete;
  Handover& operator=(const Handover&) = delete;
  ~Handover() {
    std::vector<T> rest;
    take(rest);
  }

  // What was written before is visible after the take() of it.
  void give(std::span<const T> items) {
    if (items.empty()) return;
    auto batch = std::make_unique<Batch>();
    batch->items.assign(items.begin(), items.end());
    batch->older = newest_.load(std::memory_order_relaxed);
    while (!newest_.compare_exchange_weak(batch->older, batch.get(), std::memory_order_release,
                                          std::memory_order_relaxed)) {
    }
    static_cast<void>(batch.release());  // the list's now
  }

  // Moves all to the end of `to`.
  void take(std::vector<T>& to) {
    Batch* oldest = nullptr;
    for (Batch* batch = newest_.exchange(nullptr, std::memory_order_acquire); batch != nullptr;) {
      Batch* const older = std::exchange(batch->older, oldest);
      oldest = std::exchange(batch, older);
    }
    while (oldest != nullptr) {
      const std::unique_ptr<Batch> batch(oldest);
      to.insert(to.end(), batch->items.begin(), batch->items.end());
      oldest = batch->older;  // which is the next one by now
    }
  }

 private:
  struct Batch {
    std::vector<T> items;
    Batch* older = nullptr;
  };

  std::atomic<Batch*> newest_{nullptr};  // a list, owned
};

}  // namespace gimbal
