#include <fmt/format.h>

#include "apps/reproduction.h"

namespace gimbal::apps {
namespace {

using Metric = PaperClaim::Metric;
using Over = PaperClaim::Over;

// Two ranks that share the experts, on what the papers improved: vLLM's own step times. Nothing is
// refused, as a backlog measures saturation, and loads beyond it are asked for.
std::vector<std::string> machines() {
  return {"--model",
          "qwen3-30b-a3b",
          "--profile",
          "h200-vllm",
          "--engines",
          "2",
          "--max-waiting-prefill-tokens",
          "1000000000"};
}

std::vector<ReproducedWorkload> length_distributions() {
  std::vector<ReproducedWorkload> workloads;
  for (const char* shape : {"random", "central", "descending", "two-end", "average"}) {
    workloads.push_back({shape,
                         {"--lengths", shape, "--exact-count", "--burstiness", "0.25",
                          "--no-enable-prefix-caching"}});
  }
  return workloads;
}

std::vector<ReproducedSystem> baselines() {
  return {{"vllm", {"--preset", "vllm"}, true}, {"vllm-rr", {"--preset", "vllm-rr"}, true}};
}

Reproduction v1() {
  Reproduction v1{.name = "v1",
                  .title = "Gimbal v1: dispatch and order, without placement",
                  .flags = machines(),
                  .systems = baselines(),
                  .workloads = length_distributions(),
                  .loads = {0.5, 0.7, 0.85, 0.95},
                  .claims = {}};
  v1.systems.push_back({"dispatch", {"--preset", "vllm-rr", "--dispatch", "gimbal-v1"}, false});
  v1.systems.push_back({"order", {"--preset", "vllm-rr", "--order", "sjf-priority-aging"}, false});
  v1.systems.push_back({"gimbal-v1", {"--preset", "gimbal-v1"}, false});
  v1.claims = {{"TTFT up to -17.8 %", "P", "gimbal-v1", Metric::kTtft, Over::kBest, -0.178, 0.5},
               {"TPOT up to -13.3 %", "P", "gimbal-v1", Metric::kTpot, Over::kBest, -0.133, 0.5},
               {"throughput equal", "P", "gimbal-v1", Metric::kThroughput, Over::kMean, 0, 0.5}};
  return v1;
}

Reproduction v2() {
  Reproduction v2{.name = "v2",
                  .title = "Gimbal v2: dispatch and order, without placement",
                  .flags = machines(),
                  .systems = baselines(),
                  .workloads = length_distributions(),
                  .loads = {0.5, 0.7, 0.85, 0.95, 1.05, 1.2},
                  .claims = {}};
  v2.systems.push_back(
      {"dispatch", {"--preset", "vllm", "--dispatch", "gimbal-v2", "--feedback"}, false});
  v2.systems.push_back({"order", {"--preset", "vllm", "--order", "sjf-aging"}, false});
  v2.systems.push_back({"gimbal-v2", {"--preset", "gimbal-v2"}, false});
  v2.systems.push_back({"gimbal", {"--preset", "gimbal"}, false});
  v2.claims = {{"TTFT -25.1 % (dispatch and order)", "R", "gimbal-v2", Metric::kTtft, Over::kMean,
                -0.251, 0.5},
               {"TPOT -13.4 % (dispatch and order)", "R", "gimbal-v2", Metric::kTpot, Over::kMean,
                -0.134, 0.5},
               {"request throughput +3.0 % beyond saturation (full system)", "P", "gimbal-v2",
                Metric::kThroughput, Over::kMean, 0.03, 1.05}};
  return v2;
}

// What a budget trades: the baseline with B swept, the default with k swept.
Reproduction front() {
  Reproduction front{.name = "front",
                     .title = "gimbal with k swept against vllm with B swept",
                     .flags = machines(),
                     .systems = {},
                     .workloads = length_distributions(),
                     .loads = {0.7, 0.85, 0.95},
                     .claims = {}};
  for (const int budget : {8192, 512, 1024, 2048, 4096}) {
    front.systems.push_back(
        {fmt::format("vllm B={}", budget),
         {"--preset", "vllm", "--max-num-batched-tokens", fmt::format("{}", budget)},
         true});
  }
  for (const int steps : {1, 2, 4, 8, 16}) {
    front.systems.push_back({fmt::format("gimbal k={}", steps),
                             {"--preset", "gimbal", "--drain-steps", fmt::format("{}", steps)},
                             false});
  }
  return front;
}

}  // namespace

std::vector<std::string> reproduction_names() {
  return {"v1", "v2", "front"};
}

Result<Reproduction> find_reproduction(const std::string& name) {
  for (const auto& plan : {v1(), v2(), front()}) {
    if (plan.name == name) return plan;
  }
  return Error{ErrorCode::kNotFound,
               fmt::format("what to reproduce must be one of {}, is {}",
                           fmt::join(reproduction_names(), ", "), name),
               "what"};
}

}  // namespace gimbal::apps
