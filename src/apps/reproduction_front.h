#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/reproduction.h"
#include "report/bootstrap.h"

namespace gimbal::apps {

// A point of ours against one of the baseline's: ratios, paired by seed.
struct FrontPair {
  std::string baseline;
  std::string system;
  report::Interval ratio;
};

// How two fronts of TTFT against TPOT lie in a cell.
struct FrontVerdict {
  std::string workload;
  double load = 0;
  // Baseline points that none of ours matches: against each of ours one of TTFT and TPOT is better
  // beyond the interval.
  std::vector<std::string> undominated;
  // TTFT against the point of the baseline's own front that is beaten most by one of ours whose
  // TPOT is no higher (by a percent at most). Absent where no point has such a one.
  std::optional<FrontPair> ttft_at_equal_tpot;
  FrontPair best_e2el;  // each side at its lowest mean E2E
};

// Requires: a result with a baseline and another system in each cell.
[[nodiscard]] std::vector<FrontVerdict> judge_front(const Reproduction& reproduction,
                                                    const ReproductionResult& result);

}  // namespace gimbal::apps
