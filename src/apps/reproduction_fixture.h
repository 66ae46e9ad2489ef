#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "apps/reproduction.h"

namespace gimbal::apps {

inline bool has(const std::vector<std::string>& flags, const std::string& flag) {
  return std::ranges::find(flags, flag) != flags.end();
}

inline std::string after(const std::vector<std::string>& flags, const std::string& flag) {
  const auto at = std::ranges::find(flags, flag);
  return at == flags.end() ? std::string() : *(at + 1);
}

// Two baselines, of which one is better at TTFT and the other at TPOT, and a system that halves the
// first and keeps the second.
inline Reproduction plan_of_a_test() {
  Reproduction plan{
      .name = "test",
      .title = "A test",
      .place = "Simulated",
      .flags = {"--model", "m"},
      .systems = {{"a", {"--a"}, true}, {"b", {"--b"}, true}, {"new", {"--new"}, false}},
      .workloads = {{"short", {"--short"}, {}, {}}, {"long", {"--long"}, {"--no-cache"}, {}}},
      .loads = {0.5, 1.2},
      .claims = {}};
  plan.claims = {
      {"TTFT up to -50 %", "P", "new", PaperClaim::Metric::kTtft, PaperClaim::Over::kBest, -0.5, 0},
      {"TPOT -10 %", "R", "new", PaperClaim::Metric::kTpot, PaperClaim::Over::kMean, -0.1, 0},
      {"throughput +3 %", "P", "new", PaperClaim::Metric::kThroughput, PaperClaim::Over::kMean,
       0.03, 1.05}};
  return plan;
}

inline Result<RunNumbers> run_of_a_test(const RunFlags& flags, std::uint64_t seed) {
  RunNumbers run{.mean_ttft_ms = 100.0 + static_cast<double>(seed),
                 .mean_tpot_ms = 20,
                 .mean_e2el_ms = 1'000,
                 .request_throughput = 8};
  if (!has(flags.system, "--no-cache")) run.cached_share = has(flags.system, "--new") ? 0.5 : 0.4;
  if (has(flags.system, "--b")) {
    run.mean_ttft_ms *= 2;
    run.mean_tpot_ms = 10;
  }
  if (has(flags.system, "--new")) {
    run.mean_ttft_ms *= has(flags.workload, "--long") ? 0.5 : 0.75;
    run.mean_tpot_ms = 10;
    if (after(flags.workload, "--request-rate") == "9.6000") run.request_throughput *= 1.05;
  }
  return run;
}

}  // namespace gimbal::apps
