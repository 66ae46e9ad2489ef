#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/reproduction.h"
#include "report/bootstrap.h"

namespace gimbal::apps {

// A field of runs, one a seed. Intervals are bootstrap ones over seeds.
[[nodiscard]] std::vector<double> values_of(const std::vector<RunNumbers>& runs, RunField field);
[[nodiscard]] double mean_of(const std::vector<RunNumbers>& runs, RunField field);
[[nodiscard]] report::Interval interval_of(const std::vector<RunNumbers>& runs, RunField field);
// changed / base, paired by seed.
[[nodiscard]] report::Interval ratio_of(const std::vector<RunNumbers>& base,
                                        const std::vector<RunNumbers>& changed, RunField field);

// More of it is better: throughput and prefix hits. Of all others less is.
[[nodiscard]] bool more_is_better(RunField field);
[[nodiscard]] RunField field_of(PaperClaim::Metric metric);

// Whether a ratio to it exists: no run has 0.
[[nodiscard]] bool has_ratio(const std::vector<RunNumbers>& base, RunField field);

// The baseline that is best at this in the cell, by the mean over seeds.
[[nodiscard]] const std::vector<RunNumbers>& best_baseline(const Reproduction& reproduction,
                                                           const ReproducedCell& cell,
                                                           RunField field);

// A paper's claim against the change that was found: docs/benchmarking.md has what each means. Of a
// claim's cells the one with the first of these speaks for it.
enum class Outcome { kReproduced, kUndecided, kNotReproduced };
[[nodiscard]] std::string_view to_string(Outcome outcome);  // "not reproduced"

// What became of a claim. Fractions, as claimed: -0.178.
struct Verdict {
  std::optional<report::Interval> found;  // absent: nothing was compared
  std::string where;                      // the best cell, or how many the mean is of
  std::size_t cells = 0;                  // that count; 0: none was run
  Outcome outcome = Outcome::kUndecided;
  std::string why;  // undecided: the reason, for people
};

// Whether what happened there is for or against the claim.
[[nodiscard]] bool counts(const Reproduction& reproduction, const PaperClaim& claim,
                          const ReproducedCell& cell);

// Whether a claim of prefix hits is about the workload, at whatever load.
[[nodiscard]] bool is_of_prefixes(const Reproduction& reproduction, const std::string& workload);

// Against the best baseline, cell by cell.
[[nodiscard]] Verdict judge(const Reproduction& reproduction, const ReproductionResult& result,
                            const PaperClaim& claim);

}  // namespace gimbal::apps
