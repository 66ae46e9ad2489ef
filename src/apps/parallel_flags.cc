#include "apps/parallel_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "apps/number_range.h"
#include "base/log.h"
#include "checkpoint/fingerprint.h"
#include "engine/data_parallel_engine.h"
#include "policy/preset.h"

namespace gimbal::apps {
namespace {

// How often what was drawn is written to the disk.
constexpr auto kFlushInterval = std::chrono::milliseconds(200);

constexpr std::array kOfSeveralEngines{
    "--dispatch",       "--binding",         "--dispatch-lambda",
    "--dispatch-omega", "--dispatch-tie-ms", "--dispatch-tie-fraction",
    "--running-load",   "--feedback",        "--rank-workers"};
constexpr std::array kOfSharedExperts{"--expert-pace",   "--gang-patience", "--gang-planner",
                                      "--expert-queues", "--expert-map",    "--exchange-profile",
                                      "--max-stage-ms"};

// Options that were given, and that so few engines make nothing of.
std::vector<std::string> without_effect(const CLI::App& command, const ExpertFlags& experts) {
  std::vector<std::string> names;
  const auto add_given = [&](const auto& options) {
    for (const char* const name : options) {
      if (command.get_option(name)->count() > 0) names.emplace_back(name);
    }
  };
  const bool one = experts.data_parallel_size == 1;
  if (one) add_given(kOfSeveralEngines);
  if (one || experts.expert_parallel_size == 1) add_given(kOfSharedExperts);
  return names;
}

}  // namespace

void ParallelFlags::add_to(CLI::App& command) {
  experts.add_to(command);
  command.add_option("--preset", preset,
                     fmt::format("a system to serve as: {}; single options override it",
                                 fmt::join(policy::preset_names(), ", ")));
  dispatch.add_to(command);
  command.add_option("--trace-out", trace_path,
                     "write what ran when to this file, as a trace that Perfetto opens");
  command
      .add_option("--trace-max-events", trace_events,
                  "events of the trace; later ones are left out and counted")
      ->check(above_zero())
      ->capture_default_str();
  command.add_option("--record-routing", routing_path,
                     "write the experts that the router chose for every row to this file");
}

Result<void> ParallelFlags::check_engines(const CLI::App& command) const {
  if (engines() == 1 && experts.expert_parallel_size > 1) {
    return invalid_argument(
        fmt::format("--expert-parallel-size must be 0 or 1 with one engine (--data-parallel-size), "
                    "is {}",
                    experts.expert_parallel_size),
        "expert-parallel-size");
  }
  if (const auto names = without_effect(command, experts); !names.empty()) {
    log_warning("with {} this takes no effect: {}",
                engines() == 1 ? "one engine (--data-parallel-size)"
                               : "experts of each engine's own (--expert-parallel-size 1)",
                fmt::join(names, ", "));
  }
  return {};
}

Result<void> ParallelFlags::apply_preset(const CLI::App& command, SchedulerFlags& scheduler) {
  if (preset.empty()) return {};
  GIMBAL_ASSIGN_OR_RETURN(const policy::Preset chosen, policy::find_preset(preset));
  scheduler.apply(chosen, command);
  experts.apply(chosen, command);
  dispatch.apply(chosen, command);
  if (const std::string gaps = policy::preset_gaps(chosen); !gaps.empty()) log_warning("{}", gaps);
  return {};
}

Result<void> ParallelFlags::complete(const engine::ServingEngineOptions& engine) {
  return dispatch.complete(engine.scheduler.max_num_batched_tokens);
}

Result<void> Recordings::open_routing(const ParallelFlags& flags, const ModelFlags& model_flags,
                                      const model::Model& model) {
  if (flags.routing_path.empty()) return {};
  const model_config::ModelConfig& config = model.config();
  if (config.moe_layers() == 0) {
    return invalid_argument("--record-routing: the model has no experts", "record-routing");
  }
  GIMBAL_ASSIGN_OR_RETURN(const std::uint64_t hash, checkpoint::fingerprint(model_flags.model_dir));
  auto routing = engine::RoutingRecorder::open(flags.routing_path, {.model_hash = hash,
                                                                    .layers = config.num_layers(),
                                                                    .experts = config.experts,
                                                                    .k = config.experts_per_token});
  if (!routing.ok()) return routing.error().within("--record-routing");
  routing_ = std::move(routing).value();
  return {};
}

Result<std::unique_ptr<Recordings>> Recordings::open(const ParallelFlags& flags, TimePoint origin) {
  std::unique_ptr<Recordings> recordings(new Recordings());
  auto decisions = engine::DecisionRecorder::open(flags.dispatch.decisions_path, kMostOrders);
  if (!decisions.ok()) return decisions.error().within("--decisions");
  recordings->decisions_ = std::move(decisions).value();
  if (flags.trace_path.empty()) return recordings;
  recordings->trace_path_ = flags.trace_path;
  recordings->trace_file_.open(flags.trace_path, std::ios::trunc);
  if (!recordings->trace_file_) return io_error("--trace-out " + flags.trace_path, errno);
  recordings->trace_ = std::make_unique<Trace>(
      recordings->trace_file_,
      TraceOptions{.max_events = static_cast<std::size_t>(flags.trace_events), .origin = origin});
  recordings->flusher_ = std::jthread(
      [raw = recordings.get()](std::stop_token stop) { raw->flush_now_and_then(std::move(stop)); });
  return recordings;
}

Recordings::~Recordings() {
  if (trace_ == nullptr) return;
  flusher_.request_stop();
  flusher_.join();
  const std::uint64_t dropped = trace_->dropped();
  if (const auto finished = trace_->finish(); !finished.ok()) {
    log_error("the trace {} could not be written to its end", trace_path_);
  } else if (dropped > 0) {
    log_warning("the trace {} is full: {} later events are not in it (--trace-max-events)",
                trace_path_, dropped);
  }
}

void Recordings::flush_now_and_then(std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any stopped;
  std::unique_lock lock(mutex);
  while (!stop.stop_requested()) {
    stopped.wait_for(lock, stop, kFlushInterval, [] { return false; });
    trace_->flush();
  }
}

void Recordings::give_to(engine::ServingEngineOptions& engine) {
  engine.trace = trace_.get();
  engine.routing = routing_.get();
  engine.decisions = decisions_.get();
}

void Recordings::give_to(sim::SimulatedClusterOptions& cluster, const cluster::OrderRule& order) {
  cluster.trace = trace_.get();
  cluster.on_decision = [this](const cluster::DecisionRecord& record) {
    decisions_->note_dispatch(record);
  };
  cluster.on_orders = [this, order](EngineId engine, TimePoint time,
                                    std::span<const sched::OrderDecision> decisions) {
    decisions_->note_orders(engine, time, order, decisions);
  };
}

Result<StartedEngines> start_engines(const ParallelFlags& flags, const ModelFlags& model_flags,
                                     const LoadedModel& loaded,
                                     const engine::ServingEngineOptions& options,
                                     cluster::TokenSink& sink) {
  StartedEngines started;
  if (flags.engines() == 1) {
    GIMBAL_ASSIGN_OR_RETURN(
        auto one, engine::ServingEngine::start(*loaded.model, options, *loaded.pool, sink));
    started.drain = [raw = one.get()] { raw->drain(); };
    started.options = &one->options();
    started.engine = std::move(one);
    return started;
  }
  engine::DataParallelOptions several_options{.dispatch = flags.dispatch.options};
  several_options.fleet.engine = options;
  several_options.fleet.threads = model_flags.threads;
  several_options.fleet.pin = !model_flags.no_pin;
  several_options.fleet.nice = model_flags.nice;
  GIMBAL_RETURN_IF_ERROR(flags.experts.apply(loaded.model->config(), several_options.fleet));
  GIMBAL_ASSIGN_OR_RETURN(auto several, engine::DataParallelEngine::start(
                                            *loaded.model, several_options, *loaded.pool, sink));
  started.drain = [raw = several.get()] { raw->drain(); };
  started.options = &several->engine_options();
  started.inspector = several.get();
  started.engine = std::move(several);
  return started;
}

}  // namespace gimbal::apps
