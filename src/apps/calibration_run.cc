#include "apps/calibration_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/progress.h"
#include "base/random.h"
#include "base/temporary_folder.h"
#include "cluster/engine.h"
#include "engine/serving_engine.h"

namespace gimbal::apps {
namespace {

// Counts requests that have ended. Thread-safe.
class Ends final : public cluster::TokenSink {
 public:
  void on_outputs(std::span<cluster::TokenOutput> outputs) override {
    {
      const std::lock_guard lock(mutex_);
      for (const cluster::TokenOutput& output : outputs) {
        if (!output.finish) continue;
        ++ended_;
        if (*output.finish == sched::FinishReason::kFailed) failure_ = output.error;
      }
    }
    changed_.notify_all();
  }

  // Waits until that many have ended; the error of one that failed.
  Result<void> wait_for(std::uint64_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ >= count || failure_; });
    if (failure_) return Error{ErrorCode::kInternal, "the engine failed: " + *failure_};
    return {};
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t ended_ = 0;
  std::optional<std::string> failure_;
};

// Sends the mix.
class Mix {
 public:
  Mix(engine::ServingEngine& engine, Ends& ends, int vocab, const CalibrationOptions& options)
      : engine_(engine), ends_(ends), vocab_(vocab), options_(options), rng_(options.seed) {}

  // In random order: a machine that others share is fast and slow by turns, and each kind of step
  // should see both.
  Result<void> run() {
    std::vector<Part> parts;
    for (int round = 0; round < options_.rounds; ++round)
      add_parts(parts);
    for (std::size_t i = parts.size(); i > 1; --i)
      std::swap(parts[i - 1], parts[static_cast<std::size_t>(rng_.below(i))]);
    Progress progress("calibrating", "parts", parts.size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      GIMBAL_RETURN_IF_ERROR(run(parts[i]));
      progress.update(i + 1);
    }
    progress.finish();
    return {};
  }

 private:
  // `requests` of random prompts up to `longest` tokens, so many of them in flight at once.
  struct Part {
    int requests = 1;
    int in_flight = 1;
    int shortest = kShortest;
    int longest = kShortest;
    int outputs = 4;
  };
  static constexpr int kShortest = 8;
  static constexpr int kWave = 12;
  static constexpr int kWaves = 4;

  void add_parts(std::vector<Part>& parts) const {
    const int longest = options_.longest_prompt;
    for (int prompt = kShortest; prompt <= longest; prompt *= 2) {
      for (const int tokens : {prompt, std::min(longest, prompt * 3 / 2)})
        parts.push_back({.shortest = tokens, .longest = tokens});
    }
    for (int batch = 1; batch <= options_.most_decodes; batch *= 2) {
      // Together: after their prompts they only decode. One by one: most steps have both.
      parts.push_back(
          {.requests = batch, .in_flight = batch, .longest = longest / 4, .outputs = 16});
      for (int wave = 0; wave < kWaves && batch > 1; ++wave) {
        parts.push_back({.requests = std::max(kWave, 2 * batch),
                         .in_flight = batch,
                         .longest = longest / 2,
                         .outputs = 24});
      }
    }
  }

  Result<void> run(const Part& part) {
    const std::uint64_t ended_before = sent_;
    for (int i = 0; i < part.requests; ++i) {
      const auto others = static_cast<std::uint64_t>(part.in_flight) - 1;
      if (sent_ - ended_before > others) GIMBAL_RETURN_IF_ERROR(ends_.wait_for(sent_ - others));
      const bool together = part.requests == part.in_flight;
      GIMBAL_RETURN_IF_ERROR(
          send(static_cast<int>(rng_.between(part.shortest, std::max(part.shortest, part.longest))),
               together ? part.outputs : static_cast<int>(rng_.between(4, part.outputs))));
    }
    return ends_.wait_for(sent_);
  }

  Result<void> send(int prompt, int outputs) {
    sched::Request request{.id = RequestId{++sent_}, .max_tokens = outputs};
    for (int i = 0; i < prompt; ++i) {
      request.prompt.push_back(
          static_cast<TokenId>(rng_.below(static_cast<std::uint64_t>(vocab_))));
    }
    request.sampling.ignore_eos = true;
    request.sampling.temperature = 0;
    return engine_.submit({std::move(request)});
  }

  engine::ServingEngine& engine_;
  Ends& ends_;
  int vocab_;
  CalibrationOptions options_;
  Rng rng_;
  std::uint64_t sent_ = 0;
};

}  // namespace

Result<std::vector<cost::MeasuredStep>> run_calibration(const LoadedModel& loaded,
                                                        const engine::ServingEngineOptions& engine,
                                                        const CalibrationOptions& options) {
  GIMBAL_ASSIGN_OR_RETURN(const auto folder, TemporaryFolder::make());
  const std::string record = folder->path("steps.record");
  engine::ServingEngineOptions recorded = engine;
  recorded.record_path = record;
  {
    Ends ends;
    GIMBAL_ASSIGN_OR_RETURN(const auto running, engine::ServingEngine::start(
                                                    *loaded.model, recorded, *loaded.pool, ends));
    CalibrationOptions fitting = options;
    const auto context = static_cast<int>(running->limits().max_model_len);
    fitting.longest_prompt = std::min(options.longest_prompt, context - 32);
    Mix mix(*running, ends, loaded.model->config().vocab_size, fitting);
    GIMBAL_RETURN_IF_ERROR(mix.run());
  }
  return cost::read_step_log(record);
}

}  // namespace gimbal::apps
