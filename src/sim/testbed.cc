#include "sim/testbed.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/hash.h"
#include "policy/expert_map_json.h"

namespace gimbal::sim {
namespace {

constexpr int kMostExactRows =
    1 << 16;  // of a step: keeps every index of a row's output in 32 bits

Result<cost::RoutingModel> routing_model(const cost::ModelShape& model,
                                         const RoutingOptions& options) {
  const cost::RoutingShape shape{.experts_of_layer = model.experts_of_layer(),
                                 .experts_per_token = std::max(1, model.experts_per_token)};
  if (!options.record.empty()) return cost::RoutingModel::read_record(shape, options.record);
  if (options.zipf == 0 && options.topics == 1) return cost::RoutingModel::uniform(shape);
  return cost::RoutingModel::zipf(
      shape, {.exponent = options.zipf, .topics = options.topics, .seed = options.seed});
}

policy::ExpertShape expert_shape(const cost::ModelShape& model) {
  return {.experts = model.moe_layers() * model.experts,
          .choices_per_row = model.moe_layers() * model.experts_per_token};
}

// Pages of one engine of the group.
Result<int> kv_pages(const GroupHardware& hardware, const GroupSpec& group, std::int64_t bytes,
                     int page_tokens) {
  const cost::ModelShape& model = hardware.model.model();
  const int devices = group.ranks * group.attention_tp;
  double tokens = hardware.model.kv_tokens(static_cast<double>(model.experts) / devices);
  if (group.kv_cache_bytes) bytes = *group.kv_cache_bytes;
  if (bytes > 0) {
    tokens = static_cast<double>(bytes) / model.kv_bytes_per_token();
  } else if (!(tokens > 0)) {
    return invalid_argument(fmt::format("{} does not fit {} devices of {:g} GB: take more, or give "
                                        "kv_cache_memory_bytes",
                                        model.name, devices, hardware.model.profile().memory_gb),
                            "kv_cache_memory_bytes");
  }
  if (tokens < page_tokens) {
    return invalid_argument(
        fmt::format("kv_cache_memory_bytes must hold a page, which takes {:.0f} bytes, is {}",
                    page_tokens * model.kv_bytes_per_token(), bytes),
        "kv_cache_memory_bytes");
  }
  return static_cast<int>(
      std::min<double>(tokens / page_tokens, std::numeric_limits<int>::max() / page_tokens));
}

// As `serve` takes the engines of a process to be, unless the cluster says otherwise.
bool engines_alike(const ClusterSpec& cluster) {
  const GroupSpec& first = cluster.groups.front();
  const auto differs = [&](const GroupSpec& group) {
    return group.ranks != first.ranks || group.attention_tp != first.attention_tp ||
           group.profile != first.profile || group.tier != first.tier || group.speed != first.speed;
  };
  const auto slows = [](const ScriptEvent& event) {
    return event.kind == ScriptEvent::Kind::kSlow;
  };
  return std::ranges::none_of(cluster.groups, differs) &&
         std::ranges::none_of(cluster.script, slows);
}

// A token's, on average over the engines that share experts.
double exchange_ms_per_token(const Testbed& testbed) {
  double sum = 0;
  int engines = 0;
  const std::vector<GroupSpec>& groups = testbed.options().cluster.groups;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].ranks < 2) continue;
    const int count = groups[i].count * groups[i].ranks;
    sum += count * testbed.hardware(i).model.exchange_ms_per_token(groups[i].tier);
    engines += count;
  }
  return engines > 0 ? sum / engines : 0;
}

}  // namespace

Result<std::unique_ptr<Testbed>> Testbed::make(TestbedOptions options) {
  std::unique_ptr<Testbed> testbed(new Testbed(std::move(options)));
  const std::vector<GroupSpec>& groups = testbed->options_.cluster.groups;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const auto alike = [&](std::size_t other) {
      return groups[other].ranks == groups[i].ranks && groups[other].profile == groups[i].profile &&
             groups[other].attention_tp == groups[i].attention_tp;
    };
    std::size_t like = 0;
    while (like < i && !alike(like))
      ++like;
    if (like < i) {
      testbed->by_group_.push_back(testbed->by_group_[like]);
      continue;
    }
    auto built = testbed->build(groups[i]);
    if (!built.ok()) return built.error().within(fmt::format("groups[{}]", i));
    testbed->by_group_.push_back(testbed->owned_.emplace_back(std::move(built).value()).get());
  }
  return testbed;
}

Result<std::unique_ptr<GroupHardware>> Testbed::build(const GroupSpec& group) const {
  cost::HardwareProfile profile = options_.profile;
  if (!group.profile.empty()) {
    GIMBAL_ASSIGN_OR_RETURN(profile, cost::find_profile(group.profile));
  }
  GIMBAL_ASSIGN_OR_RETURN(const cost::CostModel model,
                          cost::CostModel::make(options_.model, profile, group.attention_tp));
  GIMBAL_ASSIGN_OR_RETURN(const cost::RoutingModel routing,
                          routing_model(options_.model, options_.routing));
  const int devices = group.ranks * group.attention_tp;
  if (options_.model.moe_layers() > 0 && devices > options_.model.experts) {
    return invalid_argument(fmt::format("expert_parallel_size must be at most {} for {}, is {}",
                                        options_.model.experts, options_.model.name, devices),
                            "expert_parallel_size");
  }
  const policy::ExpertMapShape shape{.experts_of_layer = options_.model.experts_of_layer(),
                                     .ranks = devices};
  policy::ExpertMap map = policy::ExpertMap::linear(shape, 1);
  if (options_.expert_map) {
    GIMBAL_ASSIGN_OR_RETURN(map, policy::expert_map_from_json(*options_.expert_map, shape));
  }
  cost::ExpertLoadTable loads(routing, map);
  return std::make_unique<GroupHardware>(
      GroupHardware{.model = model, .routing = routing, .map = map, .loads = std::move(loads)});
}

Result<SimulatedClusterOptions> cluster_options(const Testbed& testbed,
                                                const SystemOptions& system) {
  const TestbedOptions& bed = testbed.options();
  SimulatedClusterOptions options{.groups = {},
                                  .dispatch = system.dispatch,
                                  .signals = bed.cluster.signals,
                                  .script = bed.cluster.script,
                                  .seed = system.seed};
  options.dispatch.seed = system.seed;
  options.dispatch.engines_alike = engines_alike(bed.cluster);
  options.dispatch.rule_options.exchange_ms_per_token =
      system.exchange_ms_per_token.value_or(exchange_ms_per_token(testbed));
  for (std::size_t i = 0; i < bed.cluster.groups.size(); ++i) {
    const GroupSpec& spec = bed.cluster.groups[i];
    SimulatedClusterOptions::Group group{.hardware = &testbed.hardware(i), .options = {}};
    group.options.ranks = spec.ranks;
    group.options.factor = 1 / spec.speed;
    group.options.tier = spec.tier;
    group.options.pace = system.pace;
    group.options.patience = system.patience;
    group.options.planner = system.planner;
    group.options.exact = system.exact;
    group.options.expert_queues = system.expert_queues;
    group.options.seed = hash_combine(system.seed, i);
    sched::StepLoopOptions& scheduler = group.options.scheduler;
    scheduler = system.scheduler;
    scheduler.vocab_size = bed.model.vocab;
    scheduler.experts = expert_shape(bed.model);
    GIMBAL_ASSIGN_OR_RETURN(
        scheduler.kv_pages,
        kv_pages(testbed.hardware(i), spec, system.kv_cache_bytes, scheduler.page_tokens));
    const std::int64_t room = std::int64_t{scheduler.kv_pages} * scheduler.page_tokens;
    if (scheduler.max_model_len == 0) {
      scheduler.max_model_len =
          static_cast<int>(std::min<std::int64_t>(bed.model.context_length, room));
    }
    const auto checked = sched::check_options(scheduler);
    if (!checked.ok()) return checked.error().within(fmt::format("groups[{}]", i));
    if (system.exact && scheduler.max_num_batched_tokens > kMostExactRows) {
      return invalid_argument(
          fmt::format("max_num_batched_tokens must be at most {} where each row "
                      "is simulated, is {}",
                      kMostExactRows, scheduler.max_num_batched_tokens),
          "max_num_batched_tokens");
    }
    for (int copy = 0; copy < spec.count; ++copy)
      options.groups.push_back(group);
  }
  return options;
}

}  // namespace gimbal::sim
