#include "apps/reproduction_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace gimbal::apps {
namespace {

constexpr double kEqual = 0.01;  // of what the baseline has

report::Interval as_change(const report::Interval& ratio) {
  return {.estimate = ratio.estimate - 1, .low = ratio.low - 1, .high = ratio.high - 1};
}

bool is_about(const Reproduction& reproduction, const PaperClaim& claim,
              const std::string& workload) {
  if (!claim.workload.empty()) return claim.workload == workload;
  return std::ranges::none_of(reproduction.claims,
                              [&](const PaperClaim& other) { return other.workload == workload; });
}

bool mostly_late(const std::vector<const ReproducedCell*>& cells) {
  std::size_t runs = 0;
  std::size_t late = 0;
  for (const ReproducedCell* cell : cells) {
    for (const auto& [system, of_system] : cell->runs) {
      runs += of_system.size();
      late += static_cast<std::size_t>(std::ranges::count(of_system, false, &RunNumbers::valid));
    }
  }
  return 2 * late > runs;
}

bool reaches(const PaperClaim& claim, double change) {
  return more_is_better(field_of(claim.metric)) ? change >= claim.change - kEqual
                                                : change <= claim.change + kEqual;
}

// Why the data cannot tell; empty: they can.
std::string doubt_of(const PaperClaim& claim, const report::Interval& found, std::size_t seeds,
                     bool late) {
  if (late) return "the client was late in more than half of the runs";
  if (seeds < 2) return "one seed has no interval";
  const bool none = found.low <= 0 && found.high >= 0;
  const bool claimed =
      reaches(claim, more_is_better(field_of(claim.metric)) ? found.high : found.low);
  const bool equal = claim.change == 0 && reaches(claim, found.estimate);
  return none && claimed && !equal ? "the interval holds no change and the claim" : "";
}

// Requires: no doubt.
Outcome outcome_of(const PaperClaim& claim, const report::Interval& found) {
  const bool more = more_is_better(field_of(claim.metric));
  const bool certain = claim.change == 0 || (more ? found.low > 0 : found.high < 0);
  return certain && reaches(claim, found.estimate) ? Outcome::kReproduced : Outcome::kNotReproduced;
}

// Mean over the cells, seed by seed, and then over seeds.
report::Interval mean_change(const Reproduction& reproduction,
                             const std::vector<const ReproducedCell*>& cells,
                             const std::string& system, RunField field) {
  std::vector<double> by_seed(cells.front()->runs.at(system).size(), 0.0);
  for (const ReproducedCell* cell : cells) {
    const std::vector<RunNumbers>& base = best_baseline(reproduction, *cell, field);
    const std::vector<RunNumbers>& changed = cell->runs.at(system);
    for (std::size_t seed = 0; seed < by_seed.size(); ++seed) {
      by_seed[seed] +=
          changed[seed].*field / (base[seed].*field) / static_cast<double>(cells.size());
    }
  }
  return as_change(report::bootstrap_mean(by_seed));
}

}  // namespace

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::kReproduced:
      return "reproduced";
    case Outcome::kNotReproduced:
      return "not reproduced";
    case Outcome::kUndecided:
      return "undecided";
  }
  return "";
}

std::vector<double> values_of(const std::vector<RunNumbers>& runs, RunField field) {
  std::vector<double> values;
  for (const RunNumbers& run : runs)
    values.push_back(run.*field);
  return values;
}

double mean_of(const std::vector<RunNumbers>& runs, RunField field) {
  const std::vector<double> all = values_of(runs, field);
  return std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
}

report::Interval interval_of(const std::vector<RunNumbers>& runs, RunField field) {
  return report::bootstrap_mean(values_of(runs, field));
}

report::Interval ratio_of(const std::vector<RunNumbers>& base,
                          const std::vector<RunNumbers>& changed, RunField field) {
  return report::bootstrap_paired_ratio(values_of(base, field), values_of(changed, field));
}

bool more_is_better(RunField field) {
  return field == &RunNumbers::request_throughput || field == &RunNumbers::cached_share;
}

RunField field_of(PaperClaim::Metric metric) {
  switch (metric) {
    case PaperClaim::Metric::kTtft:
      return &RunNumbers::mean_ttft_ms;
    case PaperClaim::Metric::kTpot:
      return &RunNumbers::mean_tpot_ms;
    case PaperClaim::Metric::kThroughput:
      return &RunNumbers::request_throughput;
    case PaperClaim::Metric::kPrefixHits:
      return &RunNumbers::cached_share;
  }
  return nullptr;
}

bool has_ratio(const std::vector<RunNumbers>& base, RunField field) {
  return std::ranges::none_of(base, [&](const RunNumbers& run) { return run.*field == 0; });
}

const std::vector<RunNumbers>& best_baseline(const Reproduction& reproduction,
                                             const ReproducedCell& cell, RunField field) {
  const std::vector<RunNumbers>* best = nullptr;
  for (const ReproducedSystem& system : reproduction.systems) {
    if (!system.baseline) continue;
    const std::vector<RunNumbers>& runs = cell.runs.at(system.name);
    if (best == nullptr || (mean_of(runs, field) < mean_of(*best, field)) != more_is_better(field))
      best = &runs;
  }
  GIMBAL_CHECK(best != nullptr);
  return *best;
}

bool counts(const Reproduction& reproduction, const PaperClaim& claim, const ReproducedCell& cell) {
  return cell.load >= claim.lowest_load && is_about(reproduction, claim, cell.workload);
}

bool is_of_prefixes(const Reproduction& reproduction, const std::string& workload) {
  return std::ranges::any_of(reproduction.claims, [&](const PaperClaim& claim) {
    return claim.metric == PaperClaim::Metric::kPrefixHits &&
           is_about(reproduction, claim, workload);
  });
}

Verdict judge(const Reproduction& reproduction, const ReproductionResult& result,
              const PaperClaim& claim) {
  const RunField field = field_of(claim.metric);
  std::vector<const ReproducedCell*> cells;
  for (const ReproducedCell& cell : result.cells) {
    if (counts(reproduction, claim, cell)) cells.push_back(&cell);
  }
  Verdict verdict{.found = {}, .where = "not run", .cells = cells.size(), .why = "not run"};
  if (cells.empty()) return verdict;
  const bool compared = std::ranges::all_of(cells, [&](const ReproducedCell* cell) {
    return has_ratio(best_baseline(reproduction, *cell, field), field);
  });
  if (!compared) {
    verdict.where = fmt::format("{} cells", cells.size());
    verdict.why = "the baseline has none";
    return verdict;
  }
  if (claim.over == PaperClaim::Over::kMean) {
    verdict.found = mean_change(reproduction, cells, claim.system, field);
    verdict.where = fmt::format("mean of {} cells", cells.size());
  } else {
    for (const ReproducedCell* cell : cells) {
      const report::Interval found = as_change(
          ratio_of(best_baseline(reproduction, *cell, field), cell->runs.at(claim.system), field));
      const bool better = (found.estimate < verdict.found.estimate) != more_is_better(field);
      if (cell != cells.front() && !better) continue;
      verdict.found = found;
      verdict.where = fmt::format("{} at {}", cell->workload, cell->load);
    }
  }
  verdict.why = doubt_of(claim, verdict.found, result.seeds.size(), mostly_late(cells));
  if (verdict.why.empty()) verdict.outcome = outcome_of(claim, verdict.found);
  return verdict;
}

}  // namespace gimbal::apps
