#include "server/text_worker.h"

#include <utility>

#include "base/thread_name.h"

namespace gimbal::server {

TextWorker::TextWorker(std::size_t max_bytes) : max_bytes_(max_bytes) {
  thread_ = std::thread([this] { serve(); });
}

TextWorker::~TextWorker() {
  stop();
}

bool TextWorker::submit(std::size_t bytes, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_bytes_ > 0 && waiting_bytes_ + bytes > max_bytes_) return false;
    waiting_bytes_ += bytes;
    waiting_.push_back({bytes, std::move(work)});
  }
  changed_.notify_one();
  return true;
}

void TextWorker::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void TextWorker::serve() {
  name_thread("text worker");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    Work work = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    work.run();
    work.run = nullptr;
    lock.lock();
    waiting_bytes_ -= work.bytes;
  }
}

}  // namespace gimbal::server
