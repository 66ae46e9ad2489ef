#include "apps/end_watch.h"

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "base/thread_name.h"

namespace gimbal::apps {
namespace {

constexpr Duration kLastWords = std::chrono::seconds(1);

}  // namespace

EndWatch::~EndWatch() {
  thread_.request_stop();
}

void EndWatch::arm(Duration limit, std::function<void()> last_words) {
  thread_ = std::jthread([limit, last_words = std::move(last_words)](std::stop_token stop) {
    name_thread("end watch");
    std::mutex mutex;
    std::condition_variable_any stopped;
    std::unique_lock lock(mutex);
    if (stopped.wait_for(lock, stop, limit, [] { return false; }) || stop.stop_requested()) return;
    std::thread(last_words).detach();
    stopped.wait_for(lock, kLastWords, [] { return false; });
    std::_Exit(0);
  });
}

}  // namespace gimbal::apps
