#include "apps/reproduction_plans.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

namespace gimbal::apps {
namespace {

using Metric = PaperClaim::Metric;
using Over = PaperClaim::Over;

// With topics requests are of users, each of whom writes about one.
constexpr int kUsers = 64;
constexpr long kSmallestBudget = 16;  // tokens
constexpr const char* kShapes[] = {"random", "central", "descending", "two-end", "average"};

// v1's prefix claim: the generator's conversations, whose users each ask so often in a run, so that
// the cache has filled and turned over. An engine keeps the conversations of the users who are its
// own if each sticks to one of the two, and not those of all: so where a turn goes decides whether
// it finds the turns before it.
constexpr const char* kMultiTurn = "multi-turn";
constexpr int kTurnsOfUser = 8;
constexpr double kConversationTokens = 700;  // mean, without the shared system prompt
constexpr double kLongestTokens = 4096;      // prompt and answer
constexpr std::int64_t kPageTokens = 16;

// Two ranks that share the experts. In the simulator on what the papers improved, which is vLLM's
// own step times. Nothing is refused, as a backlog measures saturation, and loads beyond it are
// asked for.
std::vector<std::string> machines(const ReproductionOptions& options) {
  std::vector<std::string> flags;
  if (options.server_model.empty()) {
    flags = {"--model", "qwen3-30b-a3b", "--profile", options.profile, "--engines", "2"};
    if (options.routing != "uniform") flags.insert(flags.end(), {"--routing", options.routing});
    if (options.topics > 1)
      flags.insert(flags.end(), {"--routing-topics", fmt::format("{}", options.topics)});
  } else {
    flags = {"--data-parallel-size", "2"};
  }
  flags.insert(flags.end(), {"--max-waiting-prefill-tokens", "1000000000"});
  return flags;
}

std::vector<ReproducedSystem> baselines() {
  return {{"vllm", {"--preset", "vllm"}, true}, {"vllm-rr", {"--preset", "vllm-rr"}, true}};
}

Reproduction v1() {
  Reproduction v1{.title = "Gimbal v1: dispatch and order, without placement",
                  .systems = baselines(),
                  .loads = {0.5, 0.7, 0.85, 0.95},
                  .claims = {}};
  v1.systems.push_back({"dispatch", {"--preset", "vllm-rr", "--dispatch", "gimbal-v1"}, false});
  v1.systems.push_back({"order", {"--preset", "vllm-rr", "--order", "sjf-priority-aging"}, false});
  v1.systems.push_back({"gimbal-v1", {"--preset", "gimbal-v1"}, false});
  v1.systems.push_back({"gimbal", {"--preset", "gimbal"}, false});
  v1.claims = {{"TTFT up to -17.8 %", "P", "gimbal-v1", Metric::kTtft, Over::kBest, -0.178, 0.5},
               {"TPOT up to -13.3 %", "P", "gimbal-v1", Metric::kTpot, Over::kBest, -0.133, 0.5},
               {"throughput equal", "P", "gimbal-v1", Metric::kThroughput, Over::kMean, 0, 0.5},
               {"prefix hits +4.4 % with stickiness", "P", "gimbal-v1", Metric::kPrefixHits,
                Over::kMean, 0.044, 0.5, kMultiTurn}};
  return v1;
}

Reproduction v2() {
  Reproduction v2{.title = "Gimbal v2: dispatch and order, without placement",
                  .systems = baselines(),
                  .loads = {0.5, 0.7, 0.85, 0.95, 1.05, 1.2},
                  .claims = {}};
  v2.systems.push_back(
      {"dispatch", {"--preset", "vllm", "--dispatch", "gimbal-v2", "--feedback"}, false});
  v2.systems.push_back({"order", {"--preset", "vllm", "--order", "sjf-aging"}, false});
  v2.systems.push_back(
      {"gimbal-v2, no feedback", {"--preset", "gimbal-v2", "--no-feedback"}, false});
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
Reproduction front(double scale) {
  Reproduction front{.title = "gimbal with k swept against vllm with B swept",
                     .loads = {0.7, 0.85, 0.95},
                     .claims = {},
                     .front = true};
  for (const int full : {8192, 512, 1024, 2048, 4096}) {
    const auto budget = std::max(kSmallestBudget, std::lround(full * scale));
    ReproducedSystem system{
        fmt::format("vllm B={}", budget),
        {"--preset", "vllm", "--max-num-batched-tokens", fmt::format("{}", budget)},
        true};
    const auto same = [&](const ReproducedSystem& other) { return other.name == system.name; };
    if (std::ranges::none_of(front.systems, same)) front.systems.push_back(std::move(system));
  }
  for (const int steps : {1, 2, 4, 8, 16}) {
    front.systems.push_back({fmt::format("gimbal k={}", steps),
                             {"--preset", "gimbal", "--drain-steps", fmt::format("{}", steps)},
                             false});
  }
  return front;
}

// Of any plan: claims and options know these by name.
bool is_of_plans(const std::string& name) {
  return name == kMultiTurn || std::ranges::find(kShapes, name) != std::end(kShapes);
}

// What --workloads takes.
std::vector<std::string> workload_names(const ReproductionOptions& options) {
  std::vector<std::string> names(std::begin(kShapes), std::end(kShapes));
  if (options.what == "v1") names.emplace_back(kMultiTurn);
  return names;
}

ReproducedWorkload lengths(const std::string& shape) {
  return {.name = shape,
          .flags = {"--lengths", shape, "--exact-count", "--burstiness", "0.25"},
          .system_flags = {"--no-enable-prefix-caching"},
          .backlog_flags = {}};
}

// As many users as the others have requests, on their own times.
ReproducedWorkload multi_turn(const ReproductionOptions& options) {
  const double own = kConversationTokens * options.num_prompts / 2;
  const double tokens = options.scale_lengths * std::max(own, 2 * kLongestTokens);
  const auto pages = std::lround(std::ceil(tokens / static_cast<double>(kPageTokens)));
  return {
      .name = kMultiTurn,
      .flags = {"--dataset-name", kMultiTurn, "--users", fmt::format("{}", options.num_prompts)},
      .system_flags = {},
      .backlog_flags = {"--burstiness", "1"},
      .times_prompts = kTurnsOfUser,
      .cache_tokens = pages * kPageTokens};
}

// Length distributions as v1's, its conversations, and traces with their own arrivals and prefixes.
Result<std::vector<ReproducedWorkload>> workloads(const ReproductionOptions& options) {
  std::vector<ReproducedWorkload> workloads;
  const std::vector<std::string> known = workload_names(options);
  const bool all = options.workloads.empty() && options.traces.empty();
  for (const std::string& name : all ? known : options.workloads) {
    if (std::ranges::find(known, name) == known.end()) {
      return invalid_argument(
          fmt::format("--workloads: must be of {}, is {}", fmt::join(known, ", "), name),
          "workloads");
    }
    workloads.push_back(name == kMultiTurn ? multi_turn(options) : lengths(name));
  }
  for (const ReproducedTrace& trace : options.traces) {
    if (is_of_plans(trace.name)) {
      return invalid_argument(
          "--trace: the plans have a workload of their own with the name " + trace.name, "trace");
    }
    workloads.push_back({.name = trace.name,
                         .flags = {"--trace", trace.path},
                         .system_flags = {},
                         .backlog_flags = {"--burstiness", "1"},
                         .windows = true});
  }
  for (ReproducedWorkload& workload : workloads) {
    const auto same = [&](const ReproducedWorkload& other) { return other.name == workload.name; };
    if (std::ranges::count_if(workloads, same) > 1)
      return invalid_argument("two workloads have the name " + workload.name, "workloads");
    if (options.scale_lengths != 1) {
      workload.flags.insert(workload.flags.end(),
                            {"--scale-lengths", fmt::format("{:g}", options.scale_lengths)});
    }
    if (options.topics > 1) {
      if (workload.name != kMultiTurn)
        workload.flags.insert(workload.flags.end(), {"--users", fmt::format("{}", kUsers)});
      workload.flags.insert(workload.flags.end(), {"--topics", fmt::format("{}", options.topics)});
    }
  }
  return workloads;
}

Result<void> check(const ReproductionOptions& options) {
  if (!options.server_model.empty() && options.routing != "uniform") {
    return invalid_argument(
        "--routing is the simulator's: a server's model has its own, not " + options.routing,
        "routing");
  }
  if (!(options.scale_lengths > 0 && options.scale_lengths <= 1000)) {
    return invalid_argument(fmt::format("--scale-lengths must be above 0 and at most 1000, is {}",
                                        options.scale_lengths),
                            "scale-lengths");
  }
  for (const double load : options.loads) {
    if (!(load > 0 && load <= 10)) {
      return invalid_argument(
          fmt::format("--loads must be shares of saturation, above 0 and at most 10, not {}", load),
          "loads");
    }
  }
  return {};
}

}  // namespace

std::vector<std::string> reproduction_names() {
  return {"v1", "v2", "front"};
}

Result<Reproduction> make_reproduction(const ReproductionOptions& options) {
  GIMBAL_RETURN_IF_ERROR(check(options));
  Reproduction plan;
  if (options.what == "v1") {
    plan = v1();
  } else if (options.what == "v2") {
    plan = v2();
  } else if (options.what == "front") {
    plan = front(options.scale_lengths);
  } else {
    return Error{ErrorCode::kNotFound,
                 fmt::format("what to reproduce must be one of {}, is {}",
                             fmt::join(reproduction_names(), ", "), options.what),
                 "what"};
  }
  plan.name = options.what;
  plan.flags = machines(options);
  plan.place = options.server_model.empty()
                   ? "Simulated"
                   : fmt::format("Real servers of the model `{}`, started", options.server_model);
  GIMBAL_ASSIGN_OR_RETURN(plan.workloads, workloads(options));
  if (!options.loads.empty()) plan.loads = options.loads;
  plan.num_prompts = options.num_prompts;
  return plan;
}

Result<ReproducedTrace> parse_reproduced_trace(const std::string& text) {
  const auto equals = text.find('=');
  ReproducedTrace trace;
  trace.path = equals == std::string::npos ? text : text.substr(equals + 1);
  trace.name = equals == std::string::npos ? std::filesystem::path(text).stem().string()
                                           : text.substr(0, equals);
  if (trace.path.empty() || trace.name.empty())
    return invalid_argument("--trace is NAME=FILE or FILE, not " + text, "trace");
  return trace;
}

}  // namespace gimbal::apps
