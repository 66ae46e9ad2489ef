#pragma once

#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/parallel_flags.h"
#include "apps/recordings.h"
#include "apps/scheduler_flags.h"
#include "base/clock.h"
#include "base/result.h"
#include "cluster/dispatch_recorder.h"
#include "cluster/engine.h"
#include "live/live_engine.h"
#include "sched/event_recorder.h"
#include "server/piece_codec.h"
#include "sim/testbed.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

// What `gimbal serve --simulate` asks beside what every `serve` does.
struct SimulationFlags {
  std::string cluster;  // a file, or a number of engines; empty: a real model is served
  std::string model = "qwen3-30b-a3b";
  std::string profile = "h200";
  std::string routing = "uniform";
  double time_scale = 1;
  int answer_tokens = 200;  // mean length of answers that leave it open

  [[nodiscard]] bool asked() const { return !cluster.empty(); }
  void add_to(CLI::App& command);
  // What goes with --simulate and what without. Errors name the flag.
  [[nodiscard]] Result<void> check(const CLI::App& command) const;
};

// The serving flags that a simulation takes, complete but for what --simulate changes in them.
struct ServedFlags {
  SchedulerFlags scheduler;
  ParallelFlags parallel;
  std::int64_t max_model_len = 0;
  std::uint64_t seed = 0;
};

// A simulated cluster that serves, with all that it refers to.
class ServedSimulation {
 public:
  // Reads the cluster, the model's shape and the profile, and starts the clock. Errors name the
  // flag or the file and the field. `recordings` and `sink` must outlive it.
  [[nodiscard]] static Result<std::unique_ptr<ServedSimulation>> start(
      const SimulationFlags& flags, const ServedFlags& served, const CLI::App& command,
      Recordings& recordings, const Clock& clock, cluster::TokenSink& sink);

  [[nodiscard]] live::LiveEngine& engine() { return *engine_; }
  [[nodiscard]] const server::TextCodec& codec() const { return *codec_; }
  // For people: what is simulated.
  [[nodiscard]] const std::string& summary() const { return summary_; }

 private:
  ServedSimulation() = default;
  [[nodiscard]] Result<void> open_records(const std::string& path, int engines,
                                          sim::SimulatedClusterOptions& cluster);

  std::string summary_;
  std::unique_ptr<sim::Testbed> testbed_;
  std::unique_ptr<server::PieceCodec> codec_;
  std::vector<std::unique_ptr<std::ofstream>> record_files_;
  std::optional<cluster::DispatchRecorder> dispatch_recorder_;
  std::vector<std::unique_ptr<sched::EventRecorder>> recorders_;
  std::unique_ptr<live::LiveEngine> engine_;  // last: its thread uses the rest
};

}  // namespace gimbal::apps
