#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "base/random.h"
#include "cluster/engine.h"
#include "policy/dispatch.h"

namespace gimbal::cluster {

struct EngineWatchOptions {
  double fresh_steps = 2;  // predicted steps that a snapshot is believed; >= 0
  double stale_steps = 8;  // and until when its queue is taken to drain; at least stale_for
  Duration stale_for = std::chrono::seconds(1);
  double first_step_ms = 100;  // a step's time until one is fitted; > 0
  // How long a failed engine is left out: doubled with each failure in a row, times a random number
  // in [0.5, 1.5), at most the last.
  Duration first_exclusion = std::chrono::milliseconds(250);
  Duration longest_exclusion = std::chrono::seconds(30);
  std::uint64_t seed = 1;
};

// What a dispatcher knows of one engine from its snapshots, how old that is, and whether the engine
// is left out for now. Rates are EWMAs over snapshots, with a time constant of a second.
//
// Age counts in predicted steps of the engine, and an idle engine does not age: it has nothing new
// to say. Every exclusion ends by itself. One thread; time comes in and never falls.
class EngineWatch {
 public:
  explicit EngineWatch(const EngineWatchOptions& options);

  // Snapshots that are not newer than the newest are ignored.
  void note(const EngineSnapshot& snapshot);
  // A request, or a probe, failed on it or did not.
  void note_health(bool healthy, TimePoint now);

  [[nodiscard]] const std::optional<EngineSnapshot>& snapshot() const { return snapshot_; }
  [[nodiscard]] policy::Freshness freshness(TimePoint now) const;
  [[nodiscard]] double age_ms(TimePoint now) const;  // 0 for an idle engine
  [[nodiscard]] double predicted_step_ms() const { return step_ms_; }
  [[nodiscard]] std::optional<policy::StepCosts> costs() const;
  // Until when the engine is left out; in the past if it is not.
  [[nodiscard]] TimePoint excluded_until() const { return excluded_until_; }

  // Fill in what the view has of the snapshot: what stays until the next one, and what changes with
  // time. The rest stays.
  void fill_said(policy::EngineView& view) const;
  void fill_now(TimePoint now, policy::EngineView& view) const;
  void fill(TimePoint now, policy::EngineView& view) const {
    fill_said(view);
    fill_now(now, view);
  }

 private:
  void note_rates(const EngineSnapshot& before, const EngineSnapshot& after);
  [[nodiscard]] double predict_step_ms() const;

  // Of the snapshot, what every decision looks at; so it need not touch the whole.
  struct Moment {
    TimePoint taken{};
    TimePoint step_started{};
    bool said = false;  // there is a snapshot
    bool idle = false;
    bool steps = false;  // a step runs
    bool timed = false;  // and how long it takes is known
  };

  EngineWatchOptions options_;
  Moment moment_;
  double step_ms_;  // as the snapshot predicts it
  TimePoint excluded_until_{};
  std::optional<EngineSnapshot> snapshot_;
  std::optional<double> output_tokens_;
  std::optional<double> freed_per_ms_;
  std::optional<double> evicted_per_ms_;
  std::optional<double> recompute_tokens_;  // a recompute
  Rng rng_;
  int failures_ = 0;  // in a row
};

}  // namespace gimbal::cluster
