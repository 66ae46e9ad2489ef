#include "apps/serve.h"

#include <fmt/format.h>
#include <pthread.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <string>
#include <thread>

#include "apps/demo_model.h"
#include "apps/end_watch.h"
#include "apps/model_flags.h"
#include "apps/number_range.h"
#include "apps/parallel_flags.h"
#include "apps/recordings.h"
#include "apps/scheduler_flags.h"
#include "apps/serve_simulation.h"
#include "apps/started_engines.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread_name.h"
#include "server/server.h"
#include "server/text_codec.h"

namespace gimbal::apps {
namespace {

constexpr double kEndPatience = 10;  // seconds

namespace fs = std::filesystem;

constexpr double kMostSeconds = 1e6;
constexpr double kMostStreamIntervalMs = 1000;

struct Arguments {
  ModelFlags model;
  std::string config;  // read before parsing: see config_file.h
  server::ServerOptions server;
  engine::ServingEngineOptions engine;
  SchedulerFlags scheduler;
  ParallelFlags parallel;
  SimulationFlags simulation;
  std::string default_class = "default";
  std::string log_level = "info";
  int block_size = kernels::kPageTokens;
  double shutdown_timeout = 300;
  double stream_interval_ms = to_ms(server::ServerOptions{}.stream_interval);
};

void add_server_flags(CLI::App& command, Arguments& arguments) {
  server::ServerOptions& server = arguments.server;
  command.add_option("--host", server.http.host, "address to listen on")->capture_default_str();
  command.add_option("--port", server.http.port, "port to listen on; 0: any free one")
      ->capture_default_str();
  command
      .add_option("--served-model-name", server.served_model_names,
                  "names that requests may use; default: the folder's name")
      ->allow_extra_args(false);
  command.add_option("--api-key", server.api_keys, "keys that requests must bring; default: open")
      ->allow_extra_args(false);
  command
      .add_option("--cors-origin", server.cors_origins,
                  "origins that browsers may call from; * allows any")
      ->allow_extra_args(false);
  command.add_option("--ssl-certfile", server.http.ssl_certfile, "PEM certificate: serve HTTPS");
  command.add_option("--ssl-keyfile", server.http.ssl_keyfile, "PEM key of --ssl-certfile");
  command.add_option("--io-threads", server.http.io_threads, "threads for connections")
      ->check(number_range(1, 64))
      ->capture_default_str();
  command.add_option("--max-connections", server.http.max_connections, "connections at once")
      ->check(above_zero())
      ->capture_default_str();
  command.add_option("--seed", server.seed, "of requests that bring no seed")
      ->capture_default_str();
  command
      .add_option("--default-class", arguments.default_class,
                  "class of requests without service_tier: default (latency-sensitive) or flex "
                  "(best-effort)")
      ->check(CLI::IsMember({"default", "flex"}))
      ->capture_default_str();
  command
      .add_option("--stream-interval-ms", arguments.stream_interval_ms,
                  "what a stream generates within so many milliseconds of its last write is "
                  "written together, as one chunk of a choice; 0: as they come")
      ->check(number_range(0.0, kMostStreamIntervalMs))
      ->capture_default_str();
  command
      .add_option("--shutdown-timeout", arguments.shutdown_timeout,
                  "seconds that running requests get after SIGTERM")
      ->check(number_range(0.0, kMostSeconds))
      ->capture_default_str();
  command.add_option("--log-level", arguments.log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
}

// Of a folder, or of the one that a config.json is in.
std::string name_of_folder(const std::string& given) {
  fs::path path = fs::absolute(given).lexically_normal();
  if (path.filename().empty() || path.filename() == "config.json") path = path.parent_path();
  return path.filename().string();
}

// What follows from several flags together. Errors name the flag.
Result<void> complete(Arguments& arguments, const CLI::App& command) {
  server::ServerOptions& server = arguments.server;
  GIMBAL_RETURN_IF_ERROR(arguments.simulation.check(command));
  if (!arguments.simulation.asked()) {  // a simulation's engines are not --data-parallel-size
    GIMBAL_RETURN_IF_ERROR(arguments.parallel.check_engines(command));
  }
  GIMBAL_RETURN_IF_ERROR(arguments.parallel.apply_preset(command, arguments.scheduler));
  arguments.parallel.warn_of_unused(command, arguments.scheduler);
  server.several_engines = arguments.parallel.engines() > 1 || arguments.simulation.asked();
  if (server.http.ssl_certfile.empty() && !server.http.ssl_keyfile.empty()) {
    return invalid_argument("--ssl-keyfile needs --ssl-certfile", "ssl-certfile");
  }
  if (!(arguments.shutdown_timeout <= kMostSeconds)) {  // not a number either
    return invalid_argument(fmt::format("--shutdown-timeout must be at most {} seconds, is {}",
                                        kMostSeconds, arguments.shutdown_timeout),
                            "shutdown-timeout");
  }
  if (arguments.simulation.asked()) {
    if (server.served_model_names.empty()) {
      server.served_model_names = {name_of_folder(arguments.simulation.model)};
    }
  } else if (arguments.model.model_dir.empty()) {
    if (server.served_model_names.empty()) server.served_model_names = {"demo"};
    GIMBAL_ASSIGN_OR_RETURN(arguments.model.model_dir, ensure_demo_model());
  }
  if (server.served_model_names.empty()) {
    server.served_model_names = {name_of_folder(arguments.model.model_dir)};
  }
  server.version = GIMBAL_VERSION;
  server.stream_interval = from_ms(arguments.stream_interval_ms);
  server.default_class = arguments.default_class == "flex" ? sched::RequestClass::kBestEffort
                                                           : sched::RequestClass::kLatencySensitive;
  // Names and ranges, before a model is loaded for minutes.
  GIMBAL_RETURN_IF_ERROR(arguments.scheduler.complete());
  arguments.engine.scheduler = arguments.scheduler.options;
  arguments.engine.kv_cache_bytes = arguments.scheduler.kv_cache_bytes;
  arguments.engine.record_path = arguments.scheduler.record_path;
  return arguments.parallel.complete(arguments.engine);
}

void print_greeting(const Arguments& arguments, std::uint16_t port, bool takes_chats) {
  const server::ServerOptions& server = arguments.server;
  const bool tls = !server.http.ssl_certfile.empty();
  const std::string host = server.http.host == "0.0.0.0" ? "127.0.0.1" : server.http.host;
  const std::string base =
      fmt::format("{}://{}:{}", tls ? "https" : "http",
                  host.find(':') != std::string::npos ? "[" + host + "]" : host, port);
  const std::string& name = server.served_model_names.front();
  log_info("serving {} on {}", name, base);
  const std::string key = server.api_keys.empty() ? "" : " -H 'Authorization: Bearer YOUR_KEY'";
  if (takes_chats) {
    fmt::print(
        "Try:\n  curl -N{} {}/v1/chat/completions -H 'Content-Type: application/json' -d "
        "'{{\"model\": \"{}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}], "
        "\"max_tokens\": 64, \"stream\": true}}'\n",
        key, base, name);
  } else {
    fmt::print(
        "Try:\n  curl -N{} {}/v1/completions -H 'Content-Type: application/json' -d "
        "'{{\"model\": \"{}\", \"prompt\": \"Hello\", \"max_tokens\": 64, \"stream\": true}}'\n",
        key, base, name);
  }
  std::fflush(stdout);
}

// SIGTERM and SIGINT, taken by a thread of their own. One that comes before ready() ends the
// process at once, as nothing is served yet; later the first wakes wait() and the second ends the
// process.
class Signals {
 public:
  // Blocks the signals here, and so in every thread that is made from now on.
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    std::thread([state = state_, set] {
      name_thread("signals");
      int signal = 0;
      sigwait(&set, &signal);
      if (!state->ready.load()) std::_Exit(0);
      state->first.set_value(signal);
      sigwait(&set, &signal);
      std::_Exit(1);
    }).detach();
  }
  void ready() { state_->ready.store(true); }
  // Blocks until one comes.
  void wait() {
    const int signal = state_->first.get_future().get();
    log_info("got {}, draining", signal == SIGTERM ? "SIGTERM" : "SIGINT");
  }

 private:
  struct State {
    std::atomic<bool> ready{false};
    std::promise<int> first;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();  // owners: this and the thread
};

// Serves until a signal comes, then lets what runs end. `drain`: the engine takes nothing new.
void serve_until_signal(const Arguments& arguments, server::Server& server, Signals& signals,
                        bool takes_chats, const std::function<void()>& drain) {
  print_greeting(arguments, server.port(), takes_chats);
  signals.wait();
  drain();
  const bool drained = server.drain(from_ms(arguments.shutdown_timeout * 1000.0));
  if (!drained) log_warning("requests still ran after {} s", arguments.shutdown_timeout);
  server.stop();
  log_info("stopped");
}

Result<void> serve_model(Arguments& arguments, server::Server& server, Signals& signals,
                         const Clock& clock) {
  const TimePoint started = clock.now();
  GIMBAL_ASSIGN_OR_RETURN(const LoadedText text, load_text(arguments.model));
  const auto codec = server::make_text_codec(*text.tokenizer, text.chat_template.get());
  GIMBAL_ASSIGN_OR_RETURN(const LoadedModel loaded, load_model(arguments.model));
  arguments.engine.isa = loaded.isa;
  GIMBAL_ASSIGN_OR_RETURN(const auto recordings, Recordings::open(arguments.parallel, clock.now()));
  GIMBAL_RETURN_IF_ERROR(
      recordings->open_routing(arguments.parallel, arguments.model, *loaded.model));
  recordings->give_to(arguments.engine);
  arguments.engine.nice = arguments.model.nice;
  EndWatch end_watch;  // beyond the engines
  GIMBAL_ASSIGN_OR_RETURN(
      const StartedEngines engines,
      start_engines(arguments.parallel, arguments.model, loaded, arguments.engine, server.sink()));
  server.serve(*engines.engine, *codec,
               {.inspector = engines.inspector, .orders = &recordings->orders()});
  signals.ready();
  const sched::StepLoopOptions& scheduler = engines.options->scheduler;
  if (engines.inspector != nullptr) {
    const bool shares = engines.inspector->experts() != nullptr &&
                        !engines.inspector->experts()->expert_groups().empty();
    log_info("{} engines, dispatch {}, binding {}, {}", arguments.parallel.engines(),
             arguments.parallel.dispatch.dispatch, arguments.parallel.dispatch.binding,
             shares ? "expert pace " + arguments.parallel.experts.expert_pace
                    : "experts of each engine's own");
  }
  log_info("{} weights {:.0f} MB, {} threads, {}; {} KV pages of {} tokens; ready after {:.1f} s",
           tensor::to_string(loaded.model->dtype()),
           static_cast<double>(loaded.model->weight_bytes()) * 1e-6, loaded.pool->workers(),
           kernels::to_string(loaded.isa), scheduler.kv_pages, scheduler.page_tokens,
           to_ms(clock.now() - started) / 1000.0);
  const auto last_words = [&recordings] {
    log_warning(
        "an engine's thread hangs: ending without it; --record files lack their last lines");
    recordings->flush();
    std::fflush(nullptr);
  };
  // What still runs then is cancelled and ends within a stage; a thread that hangs does not.
  const double patience = std::max(kEndPatience, arguments.parallel.experts.dead_after);
  serve_until_signal(arguments, server, signals, text.chat_template != nullptr, [&] {
    end_watch.arm(from_ms((arguments.shutdown_timeout + patience) * 1000.0), last_words);
    engines.drain();
  });
  end_watch.arm(from_ms(engines.hangs() ? 0.0 : patience * 1000.0), last_words);
  return {};
}

Result<void> serve_simulation(const Arguments& arguments, const CLI::App& command,
                              server::Server& server, Signals& signals, const Clock& clock) {
  GIMBAL_ASSIGN_OR_RETURN(const auto recordings, Recordings::open(arguments.parallel, TimePoint()));
  GIMBAL_ASSIGN_OR_RETURN(const auto simulation,
                          ServedSimulation::start(arguments.simulation,
                                                  {.scheduler = arguments.scheduler,
                                                   .parallel = arguments.parallel,
                                                   .max_model_len = arguments.model.max_model_len,
                                                   .seed = arguments.server.seed},
                                                  command, *recordings, clock, server.sink()));
  live::LiveEngine& engine = simulation->engine();
  server.serve(engine, simulation->codec(),
               {.inspector = &engine, .orders = &recordings->orders()});
  signals.ready();
  log_info("{}", simulation->summary());
  serve_until_signal(arguments, server, signals, true, [&engine] { engine.drain(); });
  return {};
}

Result<void> serve(Arguments& arguments, const CLI::App& command) {
  set_log_level(arguments.log_level == "debug"     ? LogLevel::kDebug
                : arguments.log_level == "info"    ? LogLevel::kInfo
                : arguments.log_level == "warning" ? LogLevel::kWarning
                                                   : LogLevel::kError);
  GIMBAL_RETURN_IF_ERROR(complete(arguments, command));
  Signals signals;
  const SteadyClock clock;
  server::Server server(arguments.server, clock);
  GIMBAL_RETURN_IF_ERROR(server.start());
  return arguments.simulation.asked() ? serve_simulation(arguments, command, server, signals, clock)
                                      : serve_model(arguments, server, signals, clock);
}

}  // namespace

void add_serve(CLI::App& program, int& status) {
  auto* command = program.add_subcommand("serve", "serve a model over the OpenAI API");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("model_dir", arguments->model.model_dir,
                      "a Hugging Face checkpoint folder; default: a small demo model, made once");
  add_server_flags(*command, *arguments);
  arguments->model.add_to(*command, true);
  arguments->scheduler.add_to(
      *command,
      " of each engine; 0: a quarter of what is free, at most 1 GiB, which all share evenly");
  command->add_option("--block-size", arguments->block_size, "tokens of a KV page; only 16")
      ->check(CLI::IsMember({kernels::kPageTokens}))
      ->capture_default_str();
  arguments->parallel.add_to(*command);
  arguments->simulation.add_to(*command);
  command->add_option("--config", arguments->config,
                      "a file with any of these options, one NAME = VALUE a line");
  command->callback([arguments, command, &status] {
    const auto result = serve(*arguments, *command);
    if (!result.ok()) status = report_failure("serve", result.error());
  });
}

}  // namespace gimbal::apps
