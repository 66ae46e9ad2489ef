#include "apps/calibration_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/progress.h"
#include "base/random.h"
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

// A file that goes when the run ends, however it ends.
class TemporaryFile {
 public:
  TemporaryFile()
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("gimbal-calibrate-{}.record", ::getpid())) {}
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

// Sends the mix.
class Mix {
 public:
  Mix(engine::ServingEngine& engine, Ends& ends, int vocab, const CalibrationOptions& options)
      : engine_(engine), ends_(ends), vocab_(vocab), options_(options), rng_(options.seed) {}

  Result<void> run() {
    Progress progress("calibrating", "parts", 3 * static_cast<std::uint64_t>(options_.rounds));
    for (int round = 0; round < options_.rounds; ++round) {
      const auto done = 3 * static_cast<std::uint64_t>(round);
      GIMBAL_RETURN_IF_ERROR(prompts_alone());
      progress.update(done + 1);
      GIMBAL_RETURN_IF_ERROR(batches());
      progress.update(done + 2);
      GIMBAL_RETURN_IF_ERROR(prompts_beside_decodes());
      progress.update(done + 3);
    }
    progress.finish();
    return {};
  }

 private:
  static constexpr int kShortest = 8;
  static constexpr int kWave = 48;  // prompts that arrive beside decodes

  int random_prompt(int longest) {
    return static_cast<int>(rng_.between(kShortest, std::max(kShortest, longest)));
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

  Result<void> prompts_alone() {
    for (int prompt = kShortest; prompt <= options_.longest_prompt; prompt *= 2) {
      for (const int tokens : {prompt, std::min(options_.longest_prompt, prompt * 3 / 2)}) {
        GIMBAL_RETURN_IF_ERROR(send(tokens, 4));
        GIMBAL_RETURN_IF_ERROR(ends_.wait_for(sent_));
      }
    }
    return {};
  }

  Result<void> batches() {
    for (int batch = 1; batch <= options_.most_decodes; batch *= 2) {
      for (int i = 0; i < batch; ++i)
        GIMBAL_RETURN_IF_ERROR(send(random_prompt(options_.longest_prompt / 4), 16));
      GIMBAL_RETURN_IF_ERROR(ends_.wait_for(sent_));
    }
    return {};
  }

  // Keeps some requests in flight, so that most steps have prefill and decodes.
  Result<void> prompts_beside_decodes() {
    for (int in_flight = 2; in_flight <= options_.most_decodes / 2; in_flight *= 2) {
      for (int i = 0; i < kWave; ++i) {
        const std::uint64_t before = static_cast<std::uint64_t>(in_flight) - 1;
        if (sent_ > before) GIMBAL_RETURN_IF_ERROR(ends_.wait_for(sent_ - before));
        const int outputs = static_cast<int>(rng_.between(4, 24));
        GIMBAL_RETURN_IF_ERROR(send(random_prompt(options_.longest_prompt / 2), outputs));
      }
      GIMBAL_RETURN_IF_ERROR(ends_.wait_for(sent_));
    }
    return {};
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
  const TemporaryFile record;
  engine::ServingEngineOptions recorded = engine;
  recorded.record_path = record.path();
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
  return cost::read_step_log(record.path());
}

}  // namespace gimbal::apps
