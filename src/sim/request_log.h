#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "report/serve_result.h"
#include "sim/request_end.h"
#include "workload/request_spec.h"

namespace gimbal::sim {

// What became of one request; times from the run's start. 48 bytes, for there are millions.
struct RequestEntry {
  Duration arrival{};
  Duration first{-1};  // token; below 0: none
  Duration last{-1};   // token
  std::int32_t prompt_tokens = 0;
  std::int32_t output_tokens = 0;
  std::int32_t cached_tokens = 0;
  std::int32_t engine = -1;  // that it went to last
  RequestEnd end = RequestEnd::kNone;
  std::uint8_t ends = 0;  // times that it ended: 1, if all is well
  workload::TrafficClass traffic_class = workload::TrafficClass::kNone;
};

// What a run's requests came to, as a client would have measured it; kept small for runs of
// millions. Gaps between tokens are kept of every n-th request, so that there are about
// `most_gaps` of them. One thread.
class RequestLog {
 public:
  explicit RequestLog(const workload::Workload& workload, std::size_t most_gaps = 2'000'000);

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] const std::vector<RequestEntry>& entries() const { return entries_; }
  [[nodiscard]] RequestEntry& at(std::size_t index) { return entries_[index]; }
  [[nodiscard]] std::size_t ended() const { return ended_; }

  void note_token(std::size_t index, Duration now);
  void note_end(std::size_t index, RequestEnd end);

  // As report::summarize, from the first arrival to the last end. Users are left out. Requires:
  // something was completed.
  [[nodiscard]] report::ServeResult summarize(const report::ServeResultOptions& options) const;
  [[nodiscard]] std::array<std::int64_t, kRequestEnds> counts() const;

 private:
  void add_group(report::GroupResult& group, const workload::TrafficClass* only, double seconds,
                 const report::ServeResultOptions& options) const;
  [[nodiscard]] Duration duration() const;
  void find_peaks(report::ServeResult& result) const;

  std::vector<RequestEntry> entries_;  // by request
  Duration first_{};                   // arrival
  std::size_t first_second_ = 0;       // in which it is
  std::size_t ended_ = 0;
  std::size_t stride_ = 1;
  std::vector<std::vector<float>> gaps_;  // of every stride_-th request, ms
  std::vector<std::uint32_t> tokens_;     // by second from the first arrival's on
};

}  // namespace gimbal::sim
