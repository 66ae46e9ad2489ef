#include "apps/expert_flags.h"

#include <CLI/CLI.hpp>

#include "apps/number_range.h"
#include "comm/exchange_profile.h"
#include "policy/expert_map_json.h"
#include "policy/gang_planner.h"

namespace gimbal::apps {
namespace {

constexpr double kMostPatience = 1000;  // steps
constexpr double kMostHoldSteps = 1000;
constexpr double kMostQuantumMs = 10'000;
constexpr double kMostDeadAfter = 86'400;

}  // namespace

void ExpertFlags::add_to(CLI::App& command) {
  command
      .add_option(
          "--data-parallel-size", data_parallel_size,
          "engines, each with requests and KV cache of its own, over one copy of the weights")
      ->check(number_range(1, 1024))
      ->capture_default_str();
  command
      .add_option(
          "--expert-parallel-size", expert_parallel_size,
          "engines that share their experts; divides --data-parallel-size; 1: each runs its "
          "own; 0: all share")
      ->check(at_least_zero())
      ->capture_default_str();
  command
      .add_option("--rank-workers", rank_workers,
                  "shared: any compute thread serves any engine; own: each engine has its own")
      ->check(CLI::IsMember({"shared", "own"}))
      ->capture_default_str();
  command
      .add_option(
          "--expert-pace", expert_pace,
          "gang: engines that share experts step together while that pays; lockstep: always, "
          "idle ones too; immediate: never")
      ->check(CLI::IsMember({"gang", "lockstep", "immediate"}))
      ->capture_default_str();
  command
      .add_option("--gang-patience", gang_patience,
                  "steps of its own that an engine waits for one whose step ends later, if they "
                  "should go together (gang pace), and twice what parting is charged; default: 8 "
                  "with own workers, 1 until step times are fitted; with shared ones until that "
                  "step has ended")
      ->check(number_range(0.0, kMostPatience));
  command
      .add_option("--gang-planner", gang_planner,
                  "prefill of engines that step together: pairing (what costs nobody much; only "
                  "the gimbal former keeps to it) or as-wanted; default: pairing with own workers "
                  "and that former, else as-wanted")
      ->check(CLI::IsMember(policy::gang_planner_names()));
  command
      .add_option("--gang-hold-steps", gang_hold_steps,
                  "expected steps, but at least 50 ms, that an expert service holds the rows of a "
                  "layer for engines of the step whose rows have not come (gang pace); who comes "
                  "later runs the rest of that step alone; 0: until they come or --dead-after")
      ->check(number_range(0.0, kMostHoldSteps))
      ->capture_default_str();
  command
      .add_option("--expert-queues", expert_queues,
                  "which experts a service runs first: run-all (all that waits, those with "
                  "latency-sensitive rows first) or ls-first (of the others only what keeps the "
                  "run below --expert-quantum-ms, unless they are of a gang step or have waited "
                  "long)")
      ->check(CLI::IsMember({"run-all", "ls-first"}))
      ->capture_default_str();
  command
      .add_option("--expert-quantum-ms", expert_quantum_ms,
                  "ls-first: how long a run may become for best-effort rows")
      ->check(number_range(0.0, kMostQuantumMs))
      ->capture_default_str();
  command
      .add_option("--expert-max-defer", expert_max_defer,
                  "ls-first: runs that may pass a best-effort queue over")
      ->check(at_least_zero())
      ->capture_default_str();
  command
      .add_option("--dead-after", dead_after,
                  "seconds without a sign of life after which an engine's thread is given up by "
                  "the others")
      ->check(number_range(1.0, kMostDeadAfter))
      ->capture_default_str();
  command.add_option("--expert-map", expert_map,
                     "JSON file that says which engine of a group runs which experts; default: "
                     "consecutive ones, about as many each");
  command.add_option("--exchange-profile", exchange_profile,
                     "JSON file with latencies and bandwidths to impose on the exchange of rows");
}

policy::ExpertQueueRule ExpertFlags::queue_rule() const {
  return {expert_queues, {.quantum = from_ms(expert_quantum_ms), .max_defer = expert_max_defer}};
}

void ExpertFlags::apply(const policy::Preset& preset, const CLI::App& command) {
  const bool given = command.get_option("--expert-pace")->count() > 0;
  if (!given) expert_pace = preset.pace;
}

Result<void> ExpertFlags::apply(const model_config::ModelConfig& config,
                                engine::EngineFleetOptions& fleet) const {
  fleet.engines = data_parallel_size;
  fleet.expert_parallel_size = expert_parallel_size;
  fleet.workers = rank_workers == "own" ? engine::RankWorkers::kOwn : engine::RankWorkers::kShared;
  GIMBAL_ASSIGN_OR_RETURN(fleet.pace, cluster::parse_gang_pace(expert_pace));
  fleet.patience = gang_patience;
  fleet.planner = gang_planner;
  fleet.hold_steps = gang_hold_steps;
  fleet.expert_queues = queue_rule();
  if (!exchange_profile.empty()) {
    auto profile = comm::read_exchange_profile(exchange_profile);
    if (!profile.ok()) return profile.error().within("--exchange-profile");
    fleet.profile = *profile;
  }
  GIMBAL_RETURN_IF_ERROR(
      engine::EngineFleet::check(fleet, config.moe_layers() > 0 ? config.experts : 0));
  const int ranks = expert_parallel_size > 0 ? expert_parallel_size : data_parallel_size;
  if (expert_map.empty() || ranks == 1) return {};  // an engine alone has no map
  GIMBAL_ASSIGN_OR_RETURN(const Json json, read_json_file(expert_map));
  auto map = policy::expert_map_from_json(json, engine::ExpertGroup::map_shape(config, ranks));
  if (!map.ok()) return map.error().within("--expert-map " + expert_map);
  fleet.map = std::move(map).value();
  return {};
}

}  // namespace gimbal::apps
