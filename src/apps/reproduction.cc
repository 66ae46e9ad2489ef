#include "apps/reproduction.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/check.h"
#include "report/bootstrap.h"
#include "report/table.h"

namespace gimbal::apps {
namespace {

using Field = double RunNumbers::*;

std::vector<double> values(const std::vector<RunNumbers>& runs, Field field) {
  std::vector<double> result;
  for (const RunNumbers& run : runs)
    result.push_back(run.*field);
  return result;
}

double mean(const std::vector<RunNumbers>& runs, Field field) {
  const std::vector<double> all = values(runs, field);
  return std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size());
}

Field field_of(PaperClaim::Metric metric) {
  switch (metric) {
    case PaperClaim::Metric::kTtft:
      return &RunNumbers::mean_ttft_ms;
    case PaperClaim::Metric::kTpot:
      return &RunNumbers::mean_tpot_ms;
    case PaperClaim::Metric::kThroughput:
      return &RunNumbers::request_throughput;
  }
  return nullptr;
}

bool more_is_better(Field field) {
  return field == &RunNumbers::request_throughput;
}

// The baseline that is best at this in the cell.
const std::vector<RunNumbers>& best_baseline(const Reproduction& reproduction,
                                             const ReproducedCell& cell, Field field) {
  const std::vector<RunNumbers>* best = nullptr;
  for (const ReproducedSystem& system : reproduction.systems) {
    if (!system.baseline) continue;
    const std::vector<RunNumbers>& runs = cell.runs.at(system.name);
    if (best == nullptr || (mean(runs, field) < mean(*best, field)) != more_is_better(field))
      best = &runs;
  }
  GIMBAL_CHECK(best != nullptr);
  return *best;
}

// Changed to the best baseline, paired by seed.
report::Interval change(const Reproduction& reproduction, const ReproducedCell& cell,
                        const std::string& system, Field field) {
  return report::bootstrap_paired_ratio(values(best_baseline(reproduction, cell, field), field),
                                        values(cell.runs.at(system), field));
}

report::Table cells_table(const Reproduction& reproduction, const ReproductionResult& result) {
  report::Table table({"workload", "load", "system", "TTFT ms", "p99 TTFT", "TPOT ms", "E2E ms",
                       "requests/s", "TTFT change", "TPOT change", "E2E change"});
  for (const ReproducedCell& cell : result.cells) {
    for (const ReproducedSystem& system : reproduction.systems) {
      const std::vector<RunNumbers>& runs = cell.runs.at(system.name);
      std::vector<report::Cell> row = {
          report::Cell::of_text(cell.workload),
          report::Cell::of_number(cell.load),
          report::Cell::of_text(system.name),
          report::Cell::of_number(mean(runs, &RunNumbers::mean_ttft_ms), 1),
          report::Cell::of_number(mean(runs, &RunNumbers::p99_ttft_ms), 1),
          report::Cell::of_number(mean(runs, &RunNumbers::mean_tpot_ms), 2),
          report::Cell::of_number(mean(runs, &RunNumbers::mean_e2el_ms), 0),
          report::Cell::of_number(mean(runs, &RunNumbers::request_throughput), 2)};
      for (const Field field :
           {&RunNumbers::mean_ttft_ms, &RunNumbers::mean_tpot_ms, &RunNumbers::mean_e2el_ms}) {
        row.push_back(system.baseline ? report::Cell::absent()
                                      : report::Cell::of_change(
                                            change(reproduction, cell, system.name, field)));
      }
      table.add_row(std::move(row));
    }
  }
  return table;
}

struct Verdict {
  double found = 0;  // a fraction, as claimed
  std::string where;
  std::size_t cells = 0;
  bool reproduced = false;
};

Verdict judge(const Reproduction& reproduction, const ReproductionResult& result,
              const PaperClaim& claim) {
  const Field field = field_of(claim.metric);
  Verdict verdict;
  double sum = 0;
  for (const ReproducedCell& cell : result.cells) {
    if (cell.load < claim.lowest_load) continue;
    const double found = change(reproduction, cell, claim.system, field).estimate - 1;
    sum += found;
    const bool better = more_is_better(field) ? found > verdict.found : found < verdict.found;
    if (claim.over == PaperClaim::Over::kBest && (verdict.cells == 0 || better)) {
      verdict.found = found;
      verdict.where = fmt::format("{} at {}", cell.workload, cell.load);
    }
    ++verdict.cells;
  }
  if (verdict.cells == 0) return verdict;
  if (claim.over == PaperClaim::Over::kMean) {
    verdict.found = sum / static_cast<double>(verdict.cells);
    verdict.where = fmt::format("mean of {} cells", verdict.cells);
  }
  // Within a percent is equal.
  constexpr double kEqual = 0.01;
  verdict.reproduced = more_is_better(field) ? verdict.found >= claim.change - kEqual
                                             : verdict.found <= claim.change + kEqual;
  return verdict;
}

}  // namespace

std::size_t runs_of(const Reproduction& reproduction, std::size_t seeds) {
  const std::size_t cells = reproduction.workloads.size() * reproduction.loads.size();
  return seeds * (reproduction.workloads.size() + cells * reproduction.systems.size());
}

Result<ReproductionResult> reproduce(const Reproduction& reproduction,
                                     const std::vector<std::uint64_t>& seeds,
                                     const SimulationRun& run,
                                     const std::function<void(std::size_t done)>& progress) {
  GIMBAL_CHECK(!seeds.empty() && reproduction.systems.front().baseline);
  ReproductionResult result;
  std::size_t done = 0;
  for (const ReproducedWorkload& workload : reproduction.workloads) {
    const auto flags_of = [&](const ReproducedSystem& system, int num_prompts) {
      std::vector<std::string> flags = reproduction.flags;
      flags.insert(flags.end(), {"--num-prompts", fmt::format("{}", num_prompts)});
      flags.insert(flags.end(), workload.flags.begin(), workload.flags.end());
      flags.insert(flags.end(), system.flags.begin(), system.flags.end());
      return flags;
    };
    double saturation = 0;
    for (const std::uint64_t seed : seeds) {
      GIMBAL_ASSIGN_OR_RETURN(
          const RunNumbers all_at_once,
          run(flags_of(reproduction.systems.front(), kSaturationRuns * reproduction.num_prompts),
              seed));
      saturation += all_at_once.request_throughput / static_cast<double>(seeds.size());
      progress(++done);
    }
    for (const double load : reproduction.loads) {
      ReproducedCell cell{
          .workload = workload.name, .load = load, .request_rate = load * saturation, .runs = {}};
      for (const ReproducedSystem& system : reproduction.systems) {
        std::vector<std::string> flags = flags_of(system, reproduction.num_prompts);
        flags.emplace_back("--request-rate");
        flags.push_back(fmt::format("{:.4f}", cell.request_rate));
        for (const std::uint64_t seed : seeds) {
          GIMBAL_ASSIGN_OR_RETURN(const RunNumbers numbers, run(flags, seed));
          cell.runs[system.name].push_back(numbers);
          progress(++done);
        }
      }
      result.cells.push_back(std::move(cell));
    }
  }
  return result;
}

std::string reproduction_text(const Reproduction& reproduction, const ReproductionResult& result) {
  std::string text = fmt::format("# {}\n\n", reproduction.title);
  text += fmt::format(
      "Simulated with `{}`. Load 1 is what `{}` clears of a backlog of {} requests; each run has "
      "{}. "
      "Changes are against the best baseline of each column, with bootstrap intervals over "
      "seeds.\n\n",
      fmt::join(reproduction.flags, " "), reproduction.systems.front().name,
      kSaturationRuns * reproduction.num_prompts, reproduction.num_prompts);
  text += cells_table(reproduction, result).to_markdown();
  if (!reproduction.claims.empty()) text += "\n";
  for (const PaperClaim& claim : reproduction.claims) {
    const Verdict verdict = judge(reproduction, result, claim);
    text += fmt::format("- {} [{}], `{}`: found {:+.1f} % ({}): {}\n", claim.text, claim.label,
                        claim.system, 100 * verdict.found, verdict.where,
                        verdict.reproduced ? "reproduced" : "not reproduced");
  }
  return text;
}

Json reproduction_to_json(const Reproduction& reproduction, const ReproductionResult& result) {
  Json claims = Json::array();
  for (const PaperClaim& claim : reproduction.claims) {
    const Verdict verdict = judge(reproduction, result, claim);
    claims.push_back({{"claim", claim.text},
                      {"label", claim.label},
                      {"system", claim.system},
                      {"claimed_change", claim.change},
                      {"found_change", verdict.found},
                      {"where", verdict.where},
                      {"reproduced", verdict.reproduced}});
  }
  Json cells = Json::array();
  for (const ReproducedCell& cell : result.cells) {
    for (const auto& [system, runs] : cell.runs) {
      Json seeds = Json::array();
      for (const RunNumbers& run : runs) {
        seeds.push_back({{"mean_ttft_ms", run.mean_ttft_ms},
                         {"p99_ttft_ms", run.p99_ttft_ms},
                         {"mean_tpot_ms", run.mean_tpot_ms},
                         {"mean_e2el_ms", run.mean_e2el_ms},
                         {"request_throughput", run.request_throughput}});
      }
      cells.push_back({{"workload", cell.workload},
                       {"load", cell.load},
                       {"request_rate", cell.request_rate},
                       {"system", system},
                       {"runs", std::move(seeds)}});
    }
  }
  return {{"name", reproduction.name},   {"title", reproduction.title},
          {"flags", reproduction.flags}, {"num_prompts", reproduction.num_prompts},
          {"claims", std::move(claims)}, {"cells", std::move(cells)}};
}

}  // namespace gimbal::apps
