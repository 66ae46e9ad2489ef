#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "policy/dispatch.h"

namespace gimbal::cluster {

// One dispatch decision with all that it was made of: the rule, given these inputs, decides the
// same again; and so does limit_to_soon of a request that is held, of which there are no scores.
struct DecisionRecord {
  std::uint64_t number = 0;  // of decisions, from 1
  TimePoint time{};
  std::vector<RequestId> requests;  // of the group
  std::uint64_t user = 0;
  std::string rule;
  policy::DispatchOptions options;
  policy::DispatchRequest request;
  std::vector<policy::EngineView> engines;
  std::uint64_t turn = 0;
  std::uint64_t random = 0;
  std::optional<double> late_steps;  // with late binding: engines with more work ahead are left out
  // What was decided.
  int engine = 0;  // -1: the request is held
  policy::DispatchReason reason = policy::DispatchReason::kOnly;
  std::vector<policy::EngineScore> scores;
};

// The last decisions, and counts of all. One thread.
class DecisionLog {
 public:
  explicit DecisionLog(std::size_t most_records) : most_records_(most_records) {}

  void add(DecisionRecord record);
  // If the log is full its oldest record, to be written over: of many engines it is large, and its
  // memory is warm. Else an empty one.
  [[nodiscard]] DecisionRecord take_oldest();
  // A decision of which no record is kept. Requires: !keeps_records().
  void count(policy::DispatchReason reason) { ++reasons_[static_cast<std::size_t>(reason)]; }
  [[nodiscard]] bool keeps_records() const { return most_records_ > 0; }

  [[nodiscard]] const std::deque<DecisionRecord>& records() const { return records_; }
  // Those about a request, oldest first: more than one where an engine refused it or failed.
  [[nodiscard]] std::vector<DecisionRecord> of(RequestId request) const;
  // The last ones, at most `most`, oldest first.
  [[nodiscard]] std::vector<DecisionRecord> last(std::size_t most) const;
  [[nodiscard]] const std::array<std::uint64_t, policy::kDispatchReasons>& reasons() const {
    return reasons_;
  }

 private:
  std::size_t most_records_;
  std::deque<DecisionRecord> records_;
  std::array<std::uint64_t, policy::kDispatchReasons> reasons_{};
};

}  // namespace gimbal::cluster
