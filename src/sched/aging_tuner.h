#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"

namespace gimbal::sched {

// Finds a of sjf-aging for the queue of one class: keeps what the last requests waited beside what
// the same requests would have waited in order of arrival, and asks policy::next_aging at most once
// a second.
//
// The shadow queue. Work is counted in uncached prompt tokens of the class, as they were when the
// request was queued. Whatever the order, the class gets the same work done by any moment, so in
// order of arrival a request would have been admitted once as much work was done as arrived before
// it. That is exact as far as the order leaves the rate of prefill alone; slots and pages, which
// the order may change, are not in it. A request that ends before its prompt is computed counts as
// done then.
//
// A request enters the window when both of its waits are known. One that arrival order would have
// admitted, and that still waits, counts with its wait so far: else the longest waits would be the
// last to be seen.
//
// A function of its calls only. One thread.
class AgingTuner {
 public:
  // `aging`: where a starts; > 0.
  explicit AgingTuner(double aging) : aging_(aging) {}

  [[nodiscard]] double aging() const { return aging_; }

  // A request was queued for the first time, with `work` tokens to compute. Requires: a new id.
  void arrived(RequestId request, TimePoint now, std::int64_t work);
  // It was admitted for the first time.
  void admitted(RequestId request, TimePoint now);
  // `done` of its work has been computed by now; less than was said before changes nothing.
  void progressed(RequestId request, TimePoint now, std::int64_t done);
  // It has ended; calls after its work was done change nothing.
  void ended(RequestId request, TimePoint now);

  // Moves a if it is time to and enough requests were seen since it last moved. True: it has moved.
  bool tune(TimePoint now);

 private:
  struct Job {
    TimePoint arrival{};
    std::int64_t work = 0;
    std::int64_t done = 0;
    bool admitted = false;
    bool shadow_admitted = false;
    bool ended = false;
    Duration wait{};
    Duration shadow_wait{};
  };
  struct Waits {
    Duration real{};
    Duration shadow{};
  };

  void count(Job& job, TimePoint now, std::int64_t done);
  void advance_shadow(TimePoint now);
  void forget_if_known(RequestId request);

  double aging_;
  std::unordered_map<RequestId, Job> jobs_;  // whose work or waits are not all known
  std::deque<RequestId> shadow_;             // not admitted in order of arrival, oldest first
  std::int64_t lead_ = 0;      // work done, less that of requests that the shadow has admitted
  std::vector<Waits> window_;  // a ring
  std::size_t seen_ = 0;
  std::size_t seen_at_move_ = 0;
  TimePoint looked_{};
  std::vector<Duration> real_;  // work space
  std::vector<Duration> shadow_waits_;
};

}  // namespace gimbal::sched
