#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace gimbal::server {

// A thread that reads long prompts, so that no loop waits for a tokenizer. Thread-safe.
class TextWorker final {
 public:
  // `max_bytes` bounds the prompts that wait.
  explicit TextWorker(std::size_t max_bytes);
  ~TextWorker();  // stops
  TextWorker(const TextWorker&) = delete;
  TextWorker& operator=(const TextWorker&) = delete;

  // Runs `work` on the thread, in order. False, and nothing is queued, when `bytes` more would
  // exceed the bound while others wait.
  [[nodiscard]] bool submit(std::size_t bytes, std::function<void()> work);
  // Ends the thread after the piece of work that runs; the rest is dropped. Idempotent.
  void stop();

 private:
  struct Work {
    std::size_t bytes = 0;
    std::function<void()> run;
  };
  void serve();

  const std::size_t max_bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Work> waiting_;       // guarded by mutex_
  std::size_t waiting_bytes_ = 0;  // guarded by mutex_; with the one that runs
  bool stopping_ = false;          // guarded by mutex_
  std::thread thread_;
};

}  // namespace gimbal::server
