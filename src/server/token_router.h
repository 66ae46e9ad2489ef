#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "cluster/engine.h"

namespace gimbal::server {

// Takes the outputs of one API request's choices. One thread: its loop's.
class TokenReceiver {
 public:
  virtual ~TokenReceiver() = default;
  // May move from the output. `now` is when the loop took over the step's outputs.
  virtual void on_output(int choice, cluster::TokenOutput& output, TimePoint now) = 0;
  // All outputs that had arrived are delivered; called once for each receiver that got any.
  virtual void on_delivered() = 0;
};

// Brings outputs from engine threads to the loops on which their requests live. A request's id
// says which loop: id mod loops. Each step costs one lock and at most one wake-up a loop.
// on_outputs, set_wake: any thread. open, close, deliver: the loop's own thread.
class TokenRouter final : public cluster::TokenSink {
 public:
  // `clock` must outlive the router.
  TokenRouter(int loops, const Clock& clock);

  void on_outputs(std::span<cluster::TokenOutput> outputs) override;

  // What makes deliver(loop) be called soon on the loop's thread; called on engine threads, under
  // a lock. Null, as at first: outputs are dropped. After set_wake the old one is not called.
  void set_wake(int loop, std::function<void()> wake);

  // A new id, whose outputs go to `receiver` as those of `choice` until close(id).
  [[nodiscard]] RequestId open(int loop, TokenReceiver& receiver, int choice);
  // Outputs of `id` that have not been delivered are dropped.
  void close(RequestId id);
  // Hands over everything that has arrived. Receivers may open and close ids meanwhile, but must
  // not be destroyed.
  void deliver(int loop);

 private:
  struct Route {
    TokenReceiver* receiver = nullptr;
    int choice = 0;
  };
  struct alignas(64) Loop {
    std::mutex mutex;
    std::vector<cluster::TokenOutput> arrived;  // guarded by mutex
    bool woken = false;                         // guarded by mutex
    std::function<void()> wake;                 // guarded by mutex
    // The rest belongs to the loop's thread.
    std::vector<cluster::TokenOutput> taken;
    std::vector<TokenReceiver*> touched;
    std::unordered_map<RequestId, Route> routes;
    std::uint64_t next = 1;
  };

  [[nodiscard]] Loop& loop_of(RequestId id) { return *loops_[id.value() % loops_.size()]; }

  const Clock& clock_;
  std::vector<std::unique_ptr<Loop>> loops_;
};

}  // namespace gimbal::server
