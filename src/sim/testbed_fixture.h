#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "policy/preset.h"
#include "sim/testbed.h"
#include "workload/request_spec.h"

namespace gimbal::sim {

// A model and a device for which times can be worked out by hand: each of 4 MoE layers takes
// 100 µs and 10 µs a row before its experts, which take 50 µs; a message takes 5 µs, a step 1 ms
// beside its layers.
inline cost::ModelShape plain_model() {
  cost::ModelShape model;
  model.name = "plain";
  model.layer_is_moe = {true, true, true, true};
  model.hidden = 16;
  model.vocab = 1000;
  model.context_length = 4096;
  model.heads = model.kv_heads = 4;
  model.kv_values_per_token = 64;
  model.experts = 8;
  model.experts_per_token = 2;
  return model;
}

inline cost::HardwareProfile plain_profile() {
  constexpr double kFast = 1e12;
  cost::HardwareProfile profile;
  profile.name = "plain";
  profile.memory_gb = 0.01;
  const cost::Roofline fast{.stream_gb_per_s = kFast, .compute_tflop_per_s = kFast};
  profile.attention = {.layer_us = 100,
                       .row_us = 10,
                       .projections = fast,
                       .kv_gb_per_s = kFast,
                       .prefill_tflop_per_s = kFast};
  profile.experts = {.layer_us = 50, .products = fast};
  profile.step = {.step_us = 1000, .head = fast};
  profile.same_node = {.latency_us = 5, .gb_per_s = kFast};
  profile.other_node = {.latency_us = 50, .gb_per_s = kFast};
  profile.move_gb_per_s_same_node = profile.move_gb_per_s_other_node = kFast;
  return profile;
}

inline std::unique_ptr<Testbed> plain_testbed(ClusterSpec cluster, RoutingOptions routing = {}) {
  auto made = Testbed::make({.model = plain_model(),
                             .profile = plain_profile(),
                             .cluster = std::move(cluster),
                             .routing = std::move(routing),
                             .expert_map = {}});
  GIMBAL_CHECK(made.ok(), made.ok() ? std::string() : made.error().message);
  return std::move(made).value();
}

// A preset's columns, as the program takes them.
inline SystemOptions plain_system(const std::string& preset) {
  const policy::Preset columns = policy::find_preset(preset).value();
  SystemOptions system{.name = preset, .kv_cache_bytes = 1 << 20};
  system.scheduler.order = columns.order;
  system.scheduler.former = columns.former;
  if (columns.max_sequences) system.scheduler.max_num_seqs = *columns.max_sequences;
  system.scheduler.max_num_batched_tokens = 256;
  system.scheduler.max_model_len = 512;
  system.pace =
      columns.pace == "lockstep" ? cluster::GangPace::kLockstep : cluster::GangPace::kGang;
  system.dispatch.rule = columns.dispatch;
  system.dispatch.feedback = columns.feedback;
  system.dispatch.late = columns.binding == "late";
  system.dispatch.rule_options.batch_tokens = 256;
  return system;
}

inline std::unique_ptr<SimulatedCluster> plain_cluster(const Testbed& testbed,
                                                       const SystemOptions& system,
                                                       const workload::Workload& workload) {
  auto options = cluster_options(testbed, system);
  GIMBAL_CHECK(options.ok(), options.ok() ? std::string() : options.error().message);
  auto made = SimulatedCluster::make(std::move(options).value(), workload);
  GIMBAL_CHECK(made.ok(), made.ok() ? std::string() : made.error().message);
  return std::move(made).value();
}

inline workload::RequestSpec request_at(double ms, std::int64_t prompt, std::int64_t output,
                                        std::uint64_t identity = 0) {
  static std::uint64_t fresh = 1'000'000;
  workload::RequestSpec request;
  request.arrival = from_ms(ms);
  request.prompt.push_back({.identity = identity > 0 ? identity : ++fresh, .tokens = prompt});
  request.output_tokens = output;
  return request;
}

// Requests of all kinds: shared prefixes, both classes, users, bursts.
inline workload::Workload random_workload(std::uint64_t seed, int requests, double gap_ms) {
  workload::Workload workload;
  workload.has_arrivals = workload.has_prefixes = true;
  Rng rng(seed);
  double at = 0;
  for (int i = 0; i < requests; ++i) {
    if (rng.below(4) != 0) at += rng.uniform() * 2 * gap_ms;
    workload::RequestSpec& request = workload.requests.emplace_back();
    request.arrival = from_ms(at);
    if (rng.below(3) == 0) {
      request.prompt.push_back(
          {.identity = 1 + rng.below(3), .tokens = 16 + static_cast<std::int64_t>(rng.below(64))});
    }
    request.prompt.push_back({.identity = 100 + rng.below(1'000'000'000),
                              .tokens = 1 + static_cast<std::int64_t>(rng.below(120))});
    request.output_tokens = 1 + static_cast<std::int64_t>(rng.below(40));
    request.user = "user-" + std::to_string(rng.below(8));
    if (rng.below(3) == 0) request.traffic_class = workload::TrafficClass::kBestEffort;
  }
  return workload;
}

}  // namespace gimbal::sim
