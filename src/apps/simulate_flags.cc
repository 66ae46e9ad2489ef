#include "apps/simulate_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <filesystem>
#include <string_view>

#include "apps/number_range.h"
#include "cost/hardware_profile.h"
#include "cost/model_shape.h"

namespace gimbal::apps {
namespace {

constexpr std::uint64_t kMostSeeds = 10'000;

std::optional<std::uint64_t> parse_seed(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

// "7" or "1..5".
Result<void> add_seeds(std::string_view text, std::vector<std::uint64_t>& seeds) {
  const auto dots = text.find("..");
  const auto first = parse_seed(text.substr(0, dots));
  const auto last = dots == text.npos ? first : parse_seed(text.substr(dots + 2));
  if (!first || !last || *last < *first || *last - *first >= kMostSeeds) {
    return invalid_argument(fmt::format("--seeds takes numbers and ranges as 1..5, not {}", text),
                            "seeds");
  }
  for (std::uint64_t i = 0; i <= *last - *first; ++i)
    seeds.push_back(*first + i);
  return {};
}

// Refuses what the command line gives and a simulation makes nothing of.
Result<void> check_effect(const CLI::App& command, bool exact) {
  if (command.get_option("--rank-workers")->count() > 0 &&
      command.get_option("--rank-workers")->as<std::string>() != "own") {
    return invalid_argument(
        "--rank-workers shared is for serve: simulated engines have devices of their own",
        "rank-workers");
  }
  if (command.get_option("--dead-after")->count() > 0) {
    return invalid_argument("--dead-after is for serve: a script says when simulated engines fail",
                            "dead-after");
  }
  if (command.get_option("--gang-hold-steps")->count() > 0) {
    return invalid_argument("--gang-hold-steps is for serve: no simulated engine stalls in a step",
                            "gang-hold-steps");
  }
  for (const std::string name : {"expert-queues", "expert-quantum-ms", "expert-max-defer"}) {
    if (exact || command.get_option("--" + name)->count() == 0) continue;
    return invalid_argument(
        fmt::format("--{} goes with --exact: expected times of steps know no queues", name), name);
  }
  return {};
}

}  // namespace

void SimulateFlags::add_to(CLI::App& command) {
  workload.add_to(command);
  command
      .add_option("--workload", workload_spec,
                  "a dataset's name, as --dataset-name, or a trace's file, as --trace")
      ->group("Workload");
  const auto machines = [&command](const char* flag, auto& value, const std::string& help) {
    return command.add_option(flag, value, help)->group("Machines");
  };
  machines(
      "--model", model,
      fmt::format("{}, a config.json or a model's folder", fmt::join(cost::shipped_models(), ", ")))
      ->capture_default_str();
  machines("--profile", profile,
           fmt::format("what the devices are: {}, or a file of `bench calibrate`",
                       fmt::join(cost::shipped_profiles(), ", ")))
      ->capture_default_str();
  machines("--cluster", cluster_path,
           "a JSON file with groups of engines, signals and events; instead of --engines");
  machines("--engines", experts.data_parallel_size, "engines; the same as --data-parallel-size")
      ->check(number_range(1, 65'536));
  machines("--routing", routing,
           "which experts tokens choose: uniform, zipf:EXPONENT, or a file of `serve "
           "--record-routing`")
      ->capture_default_str();
  machines("--routing-topics", routing_topics, "topics with popular experts of their own (zipf)")
      ->check(number_range(1, 64))
      ->capture_default_str();
  machines("--routing-seed", routing_seed, "which experts are popular (zipf)")
      ->capture_default_str();
  command
      .add_flag("--exact", exact,
                "run every row through the expert services, instead of expected times of steps")
      ->group("Machines");
  command
      .add_option("--preset", presets,
                  fmt::format("systems to compare, one after the other: {}; single options "
                              "override them all; default: gimbal",
                              fmt::join(policy::preset_names(), ", ")))
      ->delimiter(',');
  command
      .add_option("--seeds", seeds,
                  "run each preset with each of these seeds: 1,2,3 or 1..5; default: --seed")
      ->delimiter(',');
  command
      .add_option("--max-model-len", max_model_len,
                  "prompt and output tokens of one request; 0: what the model takes and the "
                  "cache holds")
      ->check(at_least_zero())
      ->capture_default_str();
  scheduler.options.max_num_batched_tokens = kGpuBatchedTokens;
  scheduler.add_to(command, " of an engine; 0: what the device's memory leaves");
  experts.rank_workers = "own";  // as simulated devices are
  experts.add_to(command);
  dispatch.add_to(command);
}

Result<std::vector<std::uint64_t>> SimulateFlags::seed_list() const {
  std::vector<std::uint64_t> list;
  for (const std::string& text : seeds)
    GIMBAL_RETURN_IF_ERROR(add_seeds(text, list));
  if (list.empty()) list.push_back(workload.seed);
  return list;
}

Result<WorkloadFlags> SimulateFlags::workload_of(std::uint64_t seed) const {
  WorkloadFlags flags = workload;
  flags.seed = seed;
  if (workload_spec.empty()) return flags;
  if (!flags.dataset_name.empty() || !flags.dataset_path.empty()) {
    return invalid_argument("--workload stands for --dataset-name or --trace: give one of them",
                            "workload");
  }
  std::error_code none;
  if (std::filesystem::is_regular_file(workload_spec, none)) {
    flags.dataset_path = workload_spec;
  } else {
    flags.dataset_name = workload_spec;
  }
  return flags;
}

Result<sim::TestbedOptions> SimulateFlags::testbed() const {
  sim::TestbedOptions options;
  GIMBAL_ASSIGN_OR_RETURN(options.model, cost::find_model(model));
  GIMBAL_ASSIGN_OR_RETURN(options.profile, cost::find_profile(profile));
  if (cluster_path.empty()) {
    const int ranks = options.model.moe_layers() > 0 ? experts.expert_parallel_size : 1;
    GIMBAL_ASSIGN_OR_RETURN(options.cluster,
                            sim::uniform_cluster(experts.data_parallel_size, ranks));
  } else {
    auto read = sim::read_cluster_spec(cluster_path);
    if (!read.ok()) return read.error().within(cluster_flag);
    options.cluster = std::move(read).value();
  }
  if (!experts.exchange_profile.empty()) {
    return invalid_argument(
        "--exchange-profile is for serve: here --profile says what an exchange takes",
        "exchange-profile");
  }
  options.routing.topics = routing_topics;
  options.routing.seed = routing_seed;
  if (routing.rfind("zipf:", 0) == 0) {
    const char* const begin = routing.data() + 5;
    const char* const end = routing.data() + routing.size();
    const auto [stop, error] = std::from_chars(begin, end, options.routing.zipf);
    if (error != std::errc() || stop != end) {
      return invalid_argument("--routing zipf: needs an exponent, as zipf:0.8, not " + routing,
                              "routing");
    }
  } else if (routing != "uniform") {
    options.routing.record = routing;
  }
  if (!experts.expert_map.empty()) {
    auto map = read_json_file(experts.expert_map);
    if (!map.ok()) return map.error().within("--expert-map");
    options.expert_map = std::move(map).value();
  }
  return options;
}

Result<sim::SystemOptions> SimulateFlags::system(const policy::Preset& preset,
                                                 const CLI::App& command) const {
  GIMBAL_RETURN_IF_ERROR(check_effect(command, exact || compare_exact));
  SchedulerFlags schedule = scheduler;
  ExpertFlags expert = experts;
  DispatchFlags dispatching = dispatch;
  schedule.apply(preset, command);
  expert.apply(preset, command);
  dispatching.apply(preset, command);
  GIMBAL_RETURN_IF_ERROR(schedule.complete());
  GIMBAL_RETURN_IF_ERROR(dispatching.complete(schedule.options.max_num_batched_tokens));
  sim::SystemOptions system{.name = std::string(preset.name),
                            .scheduler = schedule.options,
                            .kv_cache_bytes = schedule.kv_cache_bytes,
                            .dispatch = dispatching.options,
                            .exchange_ms_per_token = dispatching.exchange_ms};
  system.scheduler.max_model_len = max_model_len;
  system.dispatch.log_records = 0;
  system.exact = exact;
  system.expert_queues = expert.queue_rule();
  GIMBAL_ASSIGN_OR_RETURN(system.pace, cluster::parse_gang_pace(expert.expert_pace));
  system.patience = expert.gang_patience;
  if (system.scheduler.former != "gimbal") system.planner = "as-wanted";  // see EngineFleetOptions
  if (!expert.gang_planner.empty()) system.planner = expert.gang_planner;
  return system;
}

}  // namespace gimbal::apps
