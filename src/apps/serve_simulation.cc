#include "apps/serve_simulation.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <limits>
#include <string_view>
#include <utility>

#include "apps/number_range.h"
#include "apps/simulate_flags.h"
#include "cost/hardware_profile.h"
#include "cost/model_shape.h"
#include "live/stock_text.h"
#include "policy/batch_former.h"
#include "policy/preset.h"

namespace gimbal::apps {
namespace {

constexpr std::size_t kDecisionsKept = 1024;  // for /debug/decisions, as of real engines
constexpr int kMostEngines = 65'536;
constexpr int kLongestAnswer = 1'000'000;

// Of a simulation, and of a model on this machine: what the other has no use for.
constexpr std::string_view kOnlySimulated[] = {"--model", "--profile", "--routing", "--time-scale",
                                               "--answer-tokens"};
constexpr std::string_view kOnlyReal[] = {"--dtype",
                                          "--isa",
                                          "--threads",
                                          "--no-pin",
                                          "--small-pages",
                                          "--python-env",
                                          "--chat-template",
                                          "--compute-nice",
                                          "--block-size",
                                          "--rank-workers",
                                          "--expert-queues",
                                          "--exchange-profile",
                                          "--dead-after",
                                          "--gang-hold-steps",
                                          "--expert-quantum-ms",
                                          "--expert-max-defer",
                                          "--record-routing"};

bool given(const CLI::App& command, std::string_view flag) {
  const CLI::Option* option = command.get_option_no_throw(std::string(flag));
  return option != nullptr && option->count() > 0;
}

// A number of engines, where the text is one.
std::optional<int> engines_of(const std::string& text) {
  int engines = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), engines);
  if (error == std::errc::invalid_argument || end != text.data() + text.size()) return {};
  return error == std::errc() ? engines : 0;
}

// As `gimbal simulate` would have them from its own command line.
Result<SimulateFlags> simulate_flags(const SimulationFlags& flags, const ServedFlags& served,
                                     const CLI::App& command) {
  SimulateFlags simulate;
  simulate.cluster_flag = "--simulate";
  simulate.model = flags.model;
  simulate.profile = flags.profile;
  simulate.routing = flags.routing;
  if (served.max_model_len > std::numeric_limits<int>::max()) {
    return invalid_argument(fmt::format("--max-model-len must be at most {}, is {}",
                                        std::numeric_limits<int>::max(), served.max_model_len),
                            "max-model-len");
  }
  simulate.max_model_len = static_cast<int>(served.max_model_len);
  simulate.scheduler = served.scheduler;
  simulate.experts = served.parallel.experts;
  simulate.dispatch = served.parallel.dispatch;
  if (const auto engines = engines_of(flags.cluster)) {
    if (*engines < 1 || *engines > kMostEngines) {
      return invalid_argument(fmt::format("--simulate must be a cluster file or 1 to {} engines, "
                                          "is {}",
                                          kMostEngines, flags.cluster),
                              "simulate");
    }
    simulate.experts.data_parallel_size = *engines;
  } else {
    if (given(command, "--expert-parallel-size")) {
      return invalid_argument(
          "--expert-parallel-size goes with a number of engines: a cluster file says it with "
          "groups[].ranks",
          "expert-parallel-size");
    }
    simulate.cluster_path = flags.cluster;
  }
  // The default of a GPU: that of the flags is for the engine on CPUs.
  if (!given(command, "--max-num-batched-tokens"))
    simulate.scheduler.options.max_num_batched_tokens = kGpuBatchedTokens;
  return simulate;
}

Result<live::AnswerText> answer_text(const server::PieceCodec& codec, int mean_tokens) {
  live::AnswerText text{.end_token = server::PieceCodec::end_token(), .mean_tokens = mean_tokens};
  for (const std::string_view sentence : live::stock_sentences()) {
    GIMBAL_ASSIGN_OR_RETURN(text.sentences.emplace_back(), codec.encode(sentence, false));
  }
  return text;
}

}  // namespace

void SimulationFlags::add_to(CLI::App& command) {
  const auto add = [&command](const char* flag, auto& value, const std::string& help) {
    return command.add_option(flag, value, help)->group("Simulation");
  };
  add("--simulate", cluster,
      "serve a simulated cluster, without a model: a JSON file as of `gimbal simulate --cluster`, "
      "or a number of engines; answers are a small fixed text");
  add("--model", model,
      fmt::format("{}, a config.json or a model's folder", fmt::join(cost::shipped_models(), ", ")))
      ->capture_default_str();
  add("--profile", profile,
      fmt::format("what the devices are: {}, or a file of `bench calibrate`",
                  fmt::join(cost::shipped_profiles(), ", ")))
      ->capture_default_str();
  add("--routing", routing,
      "which experts tokens choose: uniform, zipf:EXPONENT, or a file of `serve --record-routing`")
      ->capture_default_str();
  add("--time-scale", time_scale, "simulated seconds in a second; 1: real time")
      ->capture_default_str();
  add("--answer-tokens", answer_tokens,
      "mean length of answers to chats without max_tokens, drawn from half to one and a half of it")
      ->check(number_range(1, kLongestAnswer))
      ->capture_default_str();
}

Result<void> SimulationFlags::check(const CLI::App& command) const {
  if (!asked()) {
    for (const std::string_view flag : kOnlySimulated) {
      if (!given(command, flag)) continue;
      return invalid_argument(fmt::format("{} goes with --simulate", flag),
                              std::string(flag.substr(2)));
    }
    return {};
  }
  if (given(command, "model_dir")) {
    return invalid_argument("--simulate serves no MODEL_DIR: --model says what is simulated",
                            "simulate");
  }
  if (given(command, "--data-parallel-size")) {
    return invalid_argument("--data-parallel-size: --simulate says how many engines there are",
                            "data-parallel-size");
  }
  for (const std::string_view flag : kOnlyReal) {
    if (!given(command, flag)) continue;
    return invalid_argument(fmt::format("{} has no effect on a simulated cluster: leave it out or "
                                        "serve without --simulate",
                                        flag),
                            std::string(flag.substr(2)));
  }
  if (!(time_scale > 0 && time_scale <= live::kMostTimeScale)) {  // not a number either
    return invalid_argument(fmt::format("--time-scale must be more than 0 and at most {}, is {}",
                                        live::kMostTimeScale, time_scale),
                            "time-scale");
  }
  return {};
}

Result<std::unique_ptr<ServedSimulation>> ServedSimulation::start(
    const SimulationFlags& flags, const ServedFlags& served, const CLI::App& command,
    Recordings& recordings, const Clock& clock, cluster::TokenSink& sink) {
  std::unique_ptr<ServedSimulation> made(new ServedSimulation());
  GIMBAL_ASSIGN_OR_RETURN(const SimulateFlags simulate, simulate_flags(flags, served, command));
  const std::string& name = served.parallel.preset;
  GIMBAL_ASSIGN_OR_RETURN(const policy::Preset preset,
                          policy::find_preset(name.empty() ? "gimbal" : name));
  GIMBAL_ASSIGN_OR_RETURN(sim::SystemOptions system, simulate.system(preset, command));
  system.seed = served.seed;
  system.dispatch.log_records = kDecisionsKept;
  system.scheduler.report_order = true;
  GIMBAL_ASSIGN_OR_RETURN(sim::TestbedOptions testbed, simulate.testbed());
  GIMBAL_ASSIGN_OR_RETURN(made->testbed_, sim::Testbed::make(std::move(testbed)));
  const sim::TestbedOptions& bed = made->testbed_->options();
  GIMBAL_ASSIGN_OR_RETURN(sim::SimulatedClusterOptions cluster,
                          sim::cluster_options(*made->testbed_, system));
  GIMBAL_ASSIGN_OR_RETURN(
      made->codec_,
      server::PieceCodec::make(live::stock_sentences(), static_cast<std::size_t>(bed.model.vocab)));
  GIMBAL_RETURN_IF_ERROR(
      made->open_records(simulate.scheduler.record_path, bed.cluster.engines(), cluster));
  recordings.give_to(cluster, {system.scheduler.order, system.scheduler.order_options});
  live::LiveOptions live{.cluster = std::move(cluster), .time_scale = flags.time_scale};
  GIMBAL_ASSIGN_OR_RETURN(live.text, answer_text(*made->codec_, flags.answer_tokens));
  made->summary_ =
      fmt::format("simulating {} on {} engines of {} at {} x real time, dispatch {}, binding {}",
                  bed.model.name, bed.cluster.engines(), bed.profile.name, flags.time_scale,
                  system.dispatch.rule, system.dispatch.late ? "late" : "early");
  GIMBAL_ASSIGN_OR_RETURN(made->engine_, live::LiveEngine::make(std::move(live), clock, sink));
  made->engine_->start();
  return made;
}

// As `simulate --record`, and real engines that are several.
Result<void> ServedSimulation::open_records(const std::string& path, int engines,
                                            sim::SimulatedClusterOptions& cluster) {
  if (path.empty()) return {};
  const auto open = [&](const std::string& name) -> Result<std::ofstream*> {
    auto& file = record_files_.emplace_back(std::make_unique<std::ofstream>(name, std::ios::trunc));
    if (!*file) return io_error("--record " + name, errno);
    return file.get();
  };
  GIMBAL_ASSIGN_OR_RETURN(std::ofstream* const dispatch, open(path + ".dispatch"));
  cluster.dispatch_recorder = &dispatch_recorder_.emplace(*dispatch);
  for (int i = 0; i < engines; ++i) {
    GIMBAL_ASSIGN_OR_RETURN(std::ofstream* const file, open(fmt::format("{}.engine{}", path, i)));
    cluster.recorders.push_back(
        recorders_.emplace_back(std::make_unique<sched::EventRecorder>(*file)).get());
  }
  return {};
}

}  // namespace gimbal::apps
