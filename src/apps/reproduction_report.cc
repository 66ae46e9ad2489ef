#include "apps/reproduction_report.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "apps/reproduction_front.h"
#include "apps/reproduction_statistics.h"
#include "report/table.h"

namespace gimbal::apps {
namespace {

using report::Cell;

constexpr RunField kChanges[] = {&RunNumbers::mean_ttft_ms, &RunNumbers::mean_tpot_ms,
                                 &RunNumbers::mean_e2el_ms};

// Against the best baseline. Baselines have none, nor has what is compared to nothing: answers of
// one token have no TPOT, and runs without a prefix cache no hits.
Cell change_of(const Reproduction& reproduction, const ReproducedCell& cell,
               const ReproducedSystem& system, RunField field) {
  const std::vector<RunNumbers>& base = best_baseline(reproduction, cell, field);
  if (system.baseline || !has_ratio(base, field)) return Cell::absent();
  return Cell::of_change(ratio_of(base, cell.runs.at(system.name), field));
}

report::Table cells_table(const Reproduction& reproduction, const ReproductionResult& result) {
  report::Table table({"workload", "load", "system", "TTFT ms", "p99 TTFT", "TPOT ms", "E2E ms",
                       "requests/s", "TTFT change", "TPOT change", "E2E change"});
  for (const ReproducedCell& cell : result.cells) {
    for (const ReproducedSystem& system : reproduction.systems) {
      const std::vector<RunNumbers>& runs = cell.runs.at(system.name);
      std::vector<Cell> row = {Cell::of_text(cell.workload),
                               Cell::of_number(cell.load),
                               Cell::of_text(system.name),
                               Cell::of_number(mean_of(runs, &RunNumbers::mean_ttft_ms), 1),
                               Cell::of_number(mean_of(runs, &RunNumbers::p99_ttft_ms), 1),
                               Cell::of_number(mean_of(runs, &RunNumbers::mean_tpot_ms), 2),
                               Cell::of_number(mean_of(runs, &RunNumbers::mean_e2el_ms), 0),
                               Cell::of_number(mean_of(runs, &RunNumbers::request_throughput), 2)};
      for (const RunField field : kChanges)
        row.push_back(change_of(reproduction, cell, system, field));
      table.add_row(std::move(row));
    }
  }
  return table;
}

// To a tenth; where that leaves nothing, without a sign.
double in_percent(double fraction) {
  const double value = std::round(1000 * fraction) / 10;
  return value == 0 ? 0.0 : value;
}

// Workloads that claims of prefix hits are about. Hits are shares of the prompt tokens; their
// change is against the best baseline, and so is that of p99 TTFT.
report::Table prefix_table(const Reproduction& reproduction, const ReproductionResult& result) {
  report::Table table({"workload", "load", "system", "prompt tokens found cached", "hits change",
                       "points", "p99 TTFT ms", "p99 TTFT change"});
  for (const ReproducedCell& cell : result.cells) {
    if (!is_of_prefixes(reproduction, cell.workload)) continue;
    const auto& best = best_baseline(reproduction, cell, &RunNumbers::cached_share);
    for (const ReproducedSystem& system : reproduction.systems) {
      const std::vector<RunNumbers>& runs = cell.runs.at(system.name);
      const double share = mean_of(runs, &RunNumbers::cached_share);
      const double points = in_percent(share - mean_of(best, &RunNumbers::cached_share));
      table.add_row({Cell::of_text(cell.workload), Cell::of_number(cell.load),
                     Cell::of_text(system.name),
                     Cell::of_text(fmt::format("{:.1f} %", 100 * share)),
                     change_of(reproduction, cell, system, &RunNumbers::cached_share),
                     system.baseline ? Cell::absent() : Cell::of_number(points, 1),
                     Cell::of_number(mean_of(runs, &RunNumbers::p99_ttft_ms), 1),
                     change_of(reproduction, cell, system, &RunNumbers::p99_ttft_ms)});
    }
  }
  return table;
}

// How workloads differ that have not the plan's num_prompts.
std::string sizes_text(const Reproduction& reproduction) {
  std::string text;
  for (const ReproducedWorkload& workload : reproduction.workloads) {
    if (workload.cache_tokens == 0) continue;
    text += fmt::format(
        "\nRuns of `{0}` have {1} requests, its backlog {2}; an engine's cache holds {3} tokens.\n",
        workload.name, workload.times_prompts * reproduction.num_prompts,
        saturation_runs(workload) * reproduction.num_prompts, workload.cache_tokens);
  }
  return text;
}

std::string prefix_text(const Reproduction& reproduction, const ReproductionResult& result) {
  const report::Table table = prefix_table(reproduction, result);
  if (table.rows() == 0) return "";
  return "\nPrompt tokens found in the prefix cache:\n\n" + table.to_markdown();
}

std::string percent(double fraction) {
  return fmt::format("{:+.1f} %", in_percent(fraction));
}

std::string percent(const report::Interval& change) {
  return fmt::format("{} [{}, {}]", percent(change.estimate), percent(change.low),
                     percent(change.high));
}

// What was found, and what that makes of the claim; the reason alone where nothing was compared.
std::string verdict_text(const PaperClaim& claim, const Verdict& verdict) {
  if (verdict.cells == 0) {
    return fmt::format("no load of {} or more was run of {}", claim.lowest_load,
                       claim.workload.empty() ? "its workloads" : claim.workload);
  }
  std::string text;
  if (verdict.found) text = fmt::format("found {} ({}): ", percent(*verdict.found), verdict.where);
  text += to_string(verdict.outcome);
  if (verdict.outcome == Outcome::kUndecided) text += fmt::format(" ({})", verdict.why);
  if (verdict.outcome == Outcome::kNotReproduced) {
    text +=
        fmt::format(", {:.1f} points {}", 100 * std::abs(verdict.found->estimate - claim.change),
                    claim.change == 0 ? "away" : "short");
  }
  return text;
}

std::string claims_text(const Reproduction& reproduction, const ReproductionResult& result) {
  std::string text =
      "Verdicts mean what docs/benchmarking.md says of them. Intervals do not account for the "
      "choice of the best of several cells.\n\n";
  for (const PaperClaim& claim : reproduction.claims) {
    text += fmt::format("- {} [{}], `{}`: {}\n", claim.text, claim.label, claim.system,
                        verdict_text(claim, judge(reproduction, result, claim)));
  }
  return text;
}

std::string fronts_text(const Reproduction& reproduction, const ReproductionResult& result) {
  report::Table table({"workload", "load", "baseline points undominated", "TTFT at equal TPOT",
                       "of", "E2E, each at its lowest", "of them"});
  const std::vector<FrontVerdict> fronts = judge_front(reproduction, result);
  std::size_t clear = 0;
  const auto pair = [](const FrontPair& of) {
    return Cell::of_text(fmt::format("{} / {}", of.system, of.baseline));
  };
  for (const FrontVerdict& front : fronts) {
    if (front.undominated.empty()) ++clear;
    const auto& equal = front.ttft_at_equal_tpot;
    table.add_row({Cell::of_text(front.workload), Cell::of_number(front.load),
                   front.undominated.empty()
                       ? Cell::of_text("none")
                       : Cell::of_text(fmt::format("{}", fmt::join(front.undominated, ", "))),
                   equal ? Cell::of_change(equal->ratio) : Cell::absent(),
                   equal ? pair(*equal) : Cell::absent(), Cell::of_change(front.best_e2el.ratio),
                   pair(front.best_e2el)});
  }
  return table.to_markdown() + fmt::format(
                                   "\n- No point of the baseline's is undominated within the "
                                   "interval in {} of {} cells\n",
                                   clear, fronts.size());
}

// What readers of the means must know.
std::string warnings_text(const ReproductionResult& result) {
  std::size_t runs = 0;
  std::size_t late = 0;
  std::int64_t refused = 0;
  for (const ReproducedCell& cell : result.cells) {
    for (const auto& [system, of_system] : cell.runs) {
      for (const RunNumbers& run : of_system) {
        ++runs;
        late += run.valid ? 0 : 1;
        refused += run.refused;
      }
    }
  }
  std::string text;
  if (late > 0) {
    text += fmt::format(
        "In {} of {} runs the client sent requests late, as it shares the machine with the "
        "server; TTFT counts from when they were sent. ",
        late, runs);
  }
  if (refused > 0) {
    text += fmt::format("{} requests of all runs were not answered, and are not in the means. ",
                        refused);
  }
  return text;
}

Json to_json(const report::Interval& interval) {
  return {{"estimate", interval.estimate}, {"low", interval.low}, {"high", interval.high}};
}

Json to_json(const FrontPair& pair) {
  return {{"baseline", pair.baseline}, {"system", pair.system}, {"ratio", to_json(pair.ratio)}};
}

Json to_json(const RunNumbers& run) {
  return {{"mean_ttft_ms", run.mean_ttft_ms},
          {"p99_ttft_ms", run.p99_ttft_ms},
          {"mean_tpot_ms", run.mean_tpot_ms},
          {"mean_e2el_ms", run.mean_e2el_ms},
          {"request_throughput", run.request_throughput},
          {"cached_share", run.cached_share},
          {"requests", run.requests},
          {"refused", run.refused},
          {"valid", run.valid}};
}

Json claims_to_json(const Reproduction& reproduction, const ReproductionResult& result) {
  Json claims = Json::array();
  for (const PaperClaim& claim : reproduction.claims) {
    const Verdict verdict = judge(reproduction, result, claim);
    claims.push_back({{"claim", claim.text},
                      {"label", claim.label},
                      {"system", claim.system},
                      {"claimed_change", claim.change},
                      {"found_change", verdict.found ? to_json(*verdict.found) : Json()},
                      {"where", verdict.where},
                      {"cells", verdict.cells},
                      {"outcome", to_string(verdict.outcome)},
                      {"why", verdict.why},
                      {"reproduced", verdict.outcome == Outcome::kReproduced}});
  }
  return claims;
}

// Against the best baseline; absent where that has none.
constexpr std::pair<const char*, RunField> kRatios[] = {
    {"ttft_ratio", &RunNumbers::mean_ttft_ms},
    {"tpot_ratio", &RunNumbers::mean_tpot_ms},
    {"e2el_ratio", &RunNumbers::mean_e2el_ms},
    {"p99_ttft_ratio", &RunNumbers::p99_ttft_ms},
    {"cached_ratio", &RunNumbers::cached_share}};

Json cells_to_json(const Reproduction& reproduction, const ReproductionResult& result) {
  Json cells = Json::array();
  for (const ReproducedCell& cell : result.cells) {
    for (const ReproducedSystem& system : reproduction.systems) {
      const std::vector<RunNumbers>& runs = cell.runs.at(system.name);
      Json seeds = Json::array();
      for (const RunNumbers& run : runs)
        seeds.push_back(to_json(run));
      Json entry = {{"workload", cell.workload},
                    {"load", cell.load},
                    {"request_rate", cell.request_rate},
                    {"system", system.name},
                    {"baseline", system.baseline},
                    {"mean_ttft_ms", to_json(interval_of(runs, &RunNumbers::mean_ttft_ms))},
                    {"mean_tpot_ms", to_json(interval_of(runs, &RunNumbers::mean_tpot_ms))},
                    {"mean_e2el_ms", to_json(interval_of(runs, &RunNumbers::mean_e2el_ms))},
                    {"cached_share", to_json(interval_of(runs, &RunNumbers::cached_share))},
                    {"runs", std::move(seeds)}};
      for (const auto& [name, field] : kRatios) {
        const std::vector<RunNumbers>& base = best_baseline(reproduction, cell, field);
        if (has_ratio(base, field)) entry[name] = to_json(ratio_of(base, runs, field));
      }
      cells.push_back(std::move(entry));
    }
  }
  return cells;
}

Json fronts_to_json(const Reproduction& reproduction, const ReproductionResult& result) {
  Json fronts = Json::array();
  if (!reproduction.front) return fronts;
  for (const FrontVerdict& front : judge_front(reproduction, result)) {
    fronts.push_back({{"workload", front.workload},
                      {"load", front.load},
                      {"undominated", front.undominated},
                      {"ttft_at_equal_tpot",
                       front.ttft_at_equal_tpot ? to_json(*front.ttft_at_equal_tpot) : Json()},
                      {"best_e2el", to_json(front.best_e2el)}});
  }
  return fronts;
}

}  // namespace

std::string reproduction_text(const Reproduction& reproduction, const ReproductionResult& result) {
  std::string text = fmt::format("# {}\n\n", reproduction.title);
  text += fmt::format(
      "{} with `{}`. Load 1 is what `{}` clears of a backlog of {} requests; each run has {}, with "
      "seeds {}. Changes are against the best baseline of each column, with bootstrap intervals "
      "over seeds. {}",
      reproduction.place, fmt::join(reproduction.flags, " "), reproduction.systems.front().name,
      kSaturationRuns * reproduction.num_prompts, reproduction.num_prompts,
      fmt::join(result.seeds, ", "), warnings_text(result));
  text.erase(text.find_last_not_of(' ') + 1);
  text += "\n\n" + cells_table(reproduction, result).to_markdown();
  text += sizes_text(reproduction) + prefix_text(reproduction, result);
  if (reproduction.front) text += "\n" + fronts_text(reproduction, result);
  if (!reproduction.claims.empty()) text += "\n" + claims_text(reproduction, result);
  return text;
}

Json reproduction_to_json(const Reproduction& reproduction, const ReproductionResult& result) {
  return {{"name", reproduction.name},
          {"title", reproduction.title},
          {"place", reproduction.place},
          {"flags", reproduction.flags},
          {"num_prompts", reproduction.num_prompts},
          {"seeds", result.seeds},
          {"claims", claims_to_json(reproduction, result)},
          {"fronts", fronts_to_json(reproduction, result)},
          {"cells", cells_to_json(reproduction, result)}};
}

bool is_reproduction(const Json& document) {
  return document.is_object() && document.contains("claims") && document.contains("cells");
}

}  // namespace gimbal::apps
