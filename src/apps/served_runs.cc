#include "apps/served_runs.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <utility>

#include "apps/load_run.h"
#include "apps/server_process.h"
#include "apps/stop_signals.h"
#include "apps/workload_flags.h"
#include "loadgen/load_generator.h"
#include "model_config/model_config.h"
#include "report/serve_result.h"

namespace gimbal::apps {
namespace {

constexpr std::int64_t kWarmUps = 16;       // requests: threads, buffers and the step model
constexpr const char* kModel = "measured";  // its name in requests

Result<WorkloadFlags> parse(const std::vector<std::string>& flags, std::uint64_t seed) {
  CLI::App command;
  WorkloadFlags parsed;
  parsed.add_to(command);
  std::vector<std::string> all = flags;
  std::ranges::reverse(all);  // as CLI11 takes them
  try {
    command.parse(all);
  } catch (const CLI::ParseError& error) {
    return invalid_argument(error.what());
  }
  parsed.seed = seed;
  return parsed;
}

Result<RunNumbers> numbers_of(const loadgen::LoadResult& run, bool spread) {
  // When all are due at one moment, all but the first are late for no fault of the client's.
  report::ServeResultOptions options;
  if (!spread) options.max_lag_p99_ms = std::numeric_limits<double>::infinity();
  const report::ServeResult result =
      report::summarize(run.records, run.lags, run.duration, options);
  const report::GroupResult& all = result.all;
  if (all.completed == 0) {
    return Error{ErrorCode::kUnavailable, "no request was answered: " + run.records.front().error};
  }
  return RunNumbers{.mean_ttft_ms = all.latency(report::Metric::kTtft).mean(),
                    .p99_ttft_ms = all.latency(report::Metric::kTtft).percentile(99),
                    .mean_tpot_ms = all.latency(report::Metric::kTpot).mean(),
                    .mean_e2el_ms = all.latency(report::Metric::kE2el).mean(),
                    .request_throughput = all.request_throughput,
                    .cached_share = all.cached_share(),
                    .requests = all.completed + all.failed,
                    .refused = all.failed,
                    .valid = result.valid()};
}

}  // namespace

Result<ServedRuns> ServedRuns::make(std::string model_dir, std::string python_env) {
  GIMBAL_ASSIGN_OR_RETURN(const model_config::ModelConfig config,
                          model_config::load_model_config(model_dir));
  ServedRuns runs;
  runs.model_dir_ = std::move(model_dir);
  runs.python_env_ = std::move(python_env);
  runs.vocab_size_ = config.vocab_size;
  runs.context_length_ = config.context_length;
  runs.kv_bytes_per_token_ = config.kv_bytes_per_token(
      config.dtype == "bfloat16" || config.dtype.empty() ? 2 : 4);  // as `serve --dtype auto`
  allow_many_connections();
  return runs;
}

Result<RunNumbers> ServedRuns::run(const RunFlags& flags, std::uint64_t seed) const {
  GIMBAL_ASSIGN_OR_RETURN(const WorkloadFlags workload_flags, parse(flags.workload, seed));
  GIMBAL_ASSIGN_OR_RETURN(const workload::Workload requests, make_workload(workload_flags));
  loadgen::LoadOptions load;
  load.request.model = kModel;
  load.request.tokens.vocab_size = vocab_size_;
  load.request.tokens.topics = topics_of(workload_flags, requests);
  load.stop = &watch_stop_signals();
  GIMBAL_RETURN_IF_ERROR(loadgen::validate(load.request));
  std::vector<std::string> server_flags = {model_dir_, "--served-model-name", kModel};
  if (!python_env_.empty()) server_flags.insert(server_flags.end(), {"--python-env", python_env_});
  server_flags.insert(server_flags.end(), flags.machines.begin(), flags.machines.end());
  server_flags.insert(server_flags.end(), flags.system.begin(), flags.system.end());
  if (flags.cache_tokens > 0) {
    // A request as long as the model's context might not fit such a cache.
    server_flags.insert(
        server_flags.end(),
        {"--kv-cache-memory-bytes", fmt::format("{}", flags.cache_tokens * kv_bytes_per_token_),
         "--max-model-len", fmt::format("{}", std::min(context_length_, flags.cache_tokens))});
  }
  GIMBAL_ASSIGN_OR_RETURN(const auto server, ServerProcess::start(server_flags));
  GIMBAL_RETURN_IF_ERROR(warm_up(requests, kWarmUps, server->url(), load));
  GIMBAL_ASSIGN_OR_RETURN(const loadgen::LoadResult run,
                          loadgen::run_load(requests, server->url(), load));
  if (load.stop->load()) return Error{ErrorCode::kCancelled, "stopped"};
  if (!server->alive()) {
    return Error{ErrorCode::kUnavailable, "gimbal serve ended: " + server->last_words()};
  }
  return numbers_of(run, requests.requests.back().arrival > Duration{});
}

}  // namespace gimbal::apps
