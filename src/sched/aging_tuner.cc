#include "sched/aging_tuner.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "policy/aging.h"

namespace gimbal::sched {
namespace {

constexpr std::size_t kWindow = 512;  // requests
constexpr std::size_t kLeastSinceMove = 32;
constexpr Duration kInterval = std::chrono::seconds(1);

}  // namespace

void AgingTuner::arrived(RequestId request, TimePoint now, std::int64_t work) {
  const bool added = jobs_.try_emplace(request, Job{.arrival = now, .work = work}).second;
  GIMBAL_CHECK(added, "a request arrived twice");
  shadow_.push_back(request);
  advance_shadow(now);
}

void AgingTuner::admitted(RequestId request, TimePoint now) {
  const auto found = jobs_.find(request);
  if (found == jobs_.end() || found->second.admitted) return;
  found->second.admitted = true;
  found->second.wait = now - found->second.arrival;
  forget_if_known(request);
}

void AgingTuner::progressed(RequestId request, TimePoint now, std::int64_t done) {
  const auto found = jobs_.find(request);
  if (found == jobs_.end()) return;
  count(found->second, now, done);
  forget_if_known(request);
}

void AgingTuner::ended(RequestId request, TimePoint now) {
  const auto found = jobs_.find(request);
  if (found == jobs_.end()) return;
  found->second.ended = true;
  count(found->second, now, found->second.work);
  forget_if_known(request);
}

void AgingTuner::count(Job& job, TimePoint now, std::int64_t done) {
  const std::int64_t more = std::min(done, job.work) - job.done;
  if (more <= 0) return;
  job.done += more;
  lead_ += more;
  advance_shadow(now);
}

void AgingTuner::advance_shadow(TimePoint now) {
  while (!shadow_.empty() && lead_ >= 0) {
    const RequestId request = shadow_.front();
    shadow_.pop_front();
    Job& job = jobs_.at(request);
    lead_ -= job.work;
    job.shadow_admitted = true;
    job.shadow_wait = now - job.arrival;
    forget_if_known(request);
  }
}

void AgingTuner::forget_if_known(RequestId request) {
  const auto found = jobs_.find(request);
  if (found == jobs_.end()) return;
  const Job& job = found->second;
  if (!job.shadow_admitted || job.done < job.work || !(job.admitted || job.ended)) return;
  if (job.admitted) {
    const Waits waits{job.wait, job.shadow_wait};
    if (window_.size() < kWindow) {
      window_.push_back(waits);
    } else {
      window_[seen_ % kWindow] = waits;
    }
    ++seen_;
  }
  jobs_.erase(found);
}

bool AgingTuner::tune(TimePoint now) {
  if (now - looked_ < kInterval || seen_ - seen_at_move_ < kLeastSinceMove) return false;
  looked_ = now;
  real_.clear();
  shadow_waits_.clear();
  for (const Waits& waits : window_) {
    real_.push_back(waits.real);
    shadow_waits_.push_back(waits.shadow);
  }
  for (const auto& [request, job] : jobs_) {
    if (job.admitted || !job.shadow_admitted) continue;
    real_.push_back(now - job.arrival);
    shadow_waits_.push_back(job.shadow_wait);
  }
  const double moved =
      policy::next_aging(aging_, policy::wait_p99(real_), policy::wait_p99(shadow_waits_));
  if (moved == aging_) return false;
  aging_ = moved;
  seen_at_move_ = seen_;
  return true;
}

}  // namespace gimbal::sched
