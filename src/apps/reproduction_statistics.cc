#include "apps/reproduction_statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>

#include "base/check.h"

namespace gimbal::apps {
namespace {

constexpr double kReached = 0.01;  // so near a claim is as much, of what the baseline has
// A claim of no change: so much is none. It is the least change that a paper reports as one, v2's
// +3.0 % throughput.
constexpr double kEquivalent = 0.03;
constexpr std::int64_t kRequestsOfRefused = 100;  // one of so many may be left unanswered

// A cell as a claim looks at it.
struct Compared {
  const ReproducedCell* cell = nullptr;
  const std::vector<RunNumbers>* base = nullptr;  // of the best baseline
  const std::vector<RunNumbers>* changed = nullptr;
};
using Side = const std::vector<RunNumbers>* Compared::*;

report::Interval as_change(const report::Interval& ratio) {
  return {.estimate = ratio.estimate - 1, .low = ratio.low - 1, .high = ratio.high - 1};
}

bool is_about(const Reproduction& reproduction, const PaperClaim& claim,
              const std::string& workload) {
  if (!claim.workload.empty()) return claim.workload == workload;
  return std::ranges::none_of(reproduction.claims,
                              [&](const PaperClaim& other) { return other.workload == workload; });
}

bool mostly_late(std::span<const Compared> cells) {
  std::size_t runs = 0;
  std::ptrdiff_t late = 0;
  for (const Compared& cell : cells) {
    for (const auto* side : {cell.base, cell.changed}) {
      runs += side->size();
      late += std::ranges::count(*side, false, &RunNumbers::valid);
    }
  }
  return 2 * late > static_cast<std::ptrdiff_t>(runs);
}

bool often_refused(std::span<const Compared> cells, Side side) {
  std::int64_t requests = 0;
  std::int64_t refused = 0;
  for (const Compared& cell : cells) {
    for (const RunNumbers& run : *(cell.*side)) {
      requests += run.requests;
      refused += run.refused;
    }
  }
  return kRequestsOfRefused * refused > requests;
}

// Mean over the cells, seed by seed, and then over seeds. Absent where a baseline has none.
std::optional<report::Interval> mean_change(std::span<const Compared> cells, RunField field) {
  std::vector<double> by_seed(cells.front().changed->size(), 0.0);
  for (const auto& [cell, base, changed] : cells) {
    if (!has_ratio(*base, field)) return std::nullopt;
    for (std::size_t seed = 0; seed < by_seed.size(); ++seed) {
      by_seed[seed] +=
          (*changed)[seed].*field / ((*base)[seed].*field) / static_cast<double>(cells.size());
    }
  }
  return as_change(report::bootstrap_mean(by_seed));
}

bool reaches(const PaperClaim& claim, double change) {
  return more_is_better(field_of(claim.metric)) ? change >= claim.change - kReached
                                                : change <= claim.change + kReached;
}

// Why the runs decide nothing, whatever they say; empty: they may.
std::string doubt_of(std::span<const Compared> cells, std::size_t seeds) {
  if (mostly_late(cells)) return "the client was late in more than half of the runs";
  for (const auto& [side, name] :
       {std::pair{&Compared::base, "the baseline"}, std::pair{&Compared::changed, "the system"}}) {
    if (often_refused(cells, side))
      return fmt::format("{} left more than 1 % of the requests unanswered", name);
  }
  return seeds < 2 ? "one seed has no interval" : "";
}

Outcome outcome_of_none(const report::Interval& found) {
  if (found.low >= -kEquivalent && found.high <= kEquivalent) return Outcome::kReproduced;
  const bool apart = found.high < -kEquivalent || found.low > kEquivalent;
  return apart ? Outcome::kNotReproduced : Outcome::kUndecided;
}

Outcome outcome_of(const PaperClaim& claim, const report::Interval& found) {
  if (claim.change == 0) return outcome_of_none(found);
  const bool more = more_is_better(field_of(claim.metric));
  const bool none = found.low <= 0 && found.high >= 0;
  if (none && reaches(claim, more ? found.high : found.low)) return Outcome::kUndecided;
  const bool certain = more ? found.low > 0 : found.high < 0;
  return certain && reaches(claim, found.estimate) ? Outcome::kReproduced : Outcome::kNotReproduced;
}

// By the mean over these cells.
Verdict judge_mean(const PaperClaim& claim, std::span<const Compared> cells, std::size_t seeds) {
  Verdict verdict{.found = mean_change(cells, field_of(claim.metric)),
                  .where = fmt::format("mean of {} cells", cells.size()),
                  .cells = cells.size(),
                  .why = "the baseline has none"};
  if (!verdict.found) return verdict;
  verdict.why = doubt_of(cells, seeds);
  if (!verdict.why.empty()) return verdict;
  verdict.outcome = outcome_of(claim, *verdict.found);
  if (verdict.outcome == Outcome::kUndecided) {
    verdict.why = claim.change == 0
                      ? fmt::format("the interval reaches beyond ±{:.0f} %", 100 * kEquivalent)
                      : "the interval holds no change and the claim";
  }
  return verdict;
}

// Speaks for the claim rather than the other: what was compared at all, then by the outcome, then
// by the estimate.
bool is_better(const Verdict& one, const Verdict& other, RunField field) {
  if (!one.found || !other.found) return one.found.has_value() && !other.found;
  if (one.outcome != other.outcome) return one.outcome < other.outcome;
  return more_is_better(field) ? one.found->estimate > other.found->estimate
                               : one.found->estimate < other.found->estimate;
}

Verdict judge_best(const PaperClaim& claim, std::span<const Compared> cells, std::size_t seeds) {
  Verdict best;
  for (std::size_t index = 0; index < cells.size(); ++index) {
    Verdict verdict = judge_mean(claim, cells.subspan(index, 1), seeds);
    verdict.where = fmt::format("{} at {}", cells[index].cell->workload, cells[index].cell->load);
    if (index == 0 || is_better(verdict, best, field_of(claim.metric))) best = std::move(verdict);
  }
  best.cells = cells.size();
  return best;
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
  std::vector<Compared> cells;
  for (const ReproducedCell& cell : result.cells) {
    if (!counts(reproduction, claim, cell)) continue;
    cells.push_back({.cell = &cell,
                     .base = &best_baseline(reproduction, cell, field_of(claim.metric)),
                     .changed = &cell.runs.at(claim.system)});
  }
  if (cells.empty()) return {.found = {}, .where = "not run", .why = "not run"};
  return claim.over == PaperClaim::Over::kMean ? judge_mean(claim, cells, result.seeds.size())
                                               : judge_best(claim, cells, result.seeds.size());
}

}  // namespace gimbal::apps
