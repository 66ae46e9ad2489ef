// Ranks with noisy steps on a virtual clock: what the coordinator's waiting does to them over time.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "cluster/gang_coordinator.h"

namespace gimbal::cluster {
namespace {

struct SimulatedRank {
  double attention_ms = 4;
  double service_ms = 4;
  bool latency_sensitive = true;
  double noise = 0;         // of a step's time, to both sides
  double stall = 0;         // probability that a step takes three times as long
  double idle = 0;          // probability that work runs out after a step, for one to ten steps
  bool knows_times = true;  // its step times are fitted

  // What happened.
  int steps = 0;
  int together = 0;
  double running_ms = 0;
  double waiting_ms = 0;
};

class Simulation {
 public:
  Simulation(std::vector<SimulatedRank> ranks, std::uint64_t seed,
             std::string_view planner = "as-wanted")
      : rng_(seed),
        planner_(policy::make_gang_planner(planner, {}).value()),
        coordinator_({.ranks = static_cast<int>(ranks.size())}, *planner_) {
    for (const SimulatedRank& rank : ranks)
      states_.push_back({.rank = rank, .next = TimePoint{} + from_ms(10 * rng_.uniform())});
  }

  void run(int steps) {
    const int until = steps * static_cast<int>(states_.size());
    for (int done = 0; done < until;) {
      State* next = nullptr;
      for (State& state : states_) {
        if (state.next && (next == nullptr || *state.next < *next->next)) next = &state;
      }
      if (wake_ && (next == nullptr || *wake_ < *next->next)) {
        now_ = *wake_;
        wake_.reset();
        give(GangTimer{});
        continue;
      }
      ASSERT_NE(next, nullptr) << "nobody runs and nobody is woken";
      now_ = *next->next;
      next->next.reset();
      done += finish_and_ask(*next) ? 1 : 0;
    }
  }

  const SimulatedRank& rank(std::size_t i) const { return states_[i].rank; }
  [[nodiscard]] double together() const {
    double together = 0;
    double steps = 0;
    for (const State& state : states_) {
      together += state.rank.together;
      steps += state.rank.steps;
    }
    return together / steps;
  }
  // Of the time of all ranks.
  [[nodiscard]] double waiting() const {
    double waiting = 0;
    double all = 0;
    for (const State& state : states_) {
      waiting += state.rank.waiting_ms;
      all += state.rank.waiting_ms + state.rank.running_ms;
    }
    return waiting / all;
  }

 private:
  struct State {
    SimulatedRank rank;
    std::optional<TimePoint> next;  // end of its step, or of its idleness
    std::uint64_t number = 0;
    bool running = false;
    TimePoint asked{};
  };

  // Whether a step ended.
  bool finish_and_ask(State& state) {
    const Rank rank{static_cast<std::int32_t>(&state - states_.data())};
    const bool ended = state.running;
    state.running = false;
    if (ended) {
      const bool idle = rng_.uniform() < state.rank.idle;
      give(GangStepEnded{rank, state.number, !idle});
      if (idle) {
        state.next = now_ + from_ms((1 + 9 * rng_.uniform()) * state.rank.attention_ms);
        return true;
      }
    }
    GangIntent intent{.last_seen = state.number};
    intent.member = {.rank = rank, .decodes = 1, .max_rows = 100};
    intent.member.latency_sensitive = state.rank.latency_sensitive;
    if (state.rank.knows_times) {
      intent.member.times.emplace();
      intent.member.times->coefficients.attention[0] = state.rank.attention_ms;
      intent.member.times->coefficients.service[0] = state.rank.service_ms;
    }
    state.asked = now_;
    give(intent);
    return ended;
  }

  double noisy(const SimulatedRank& rank, double ms) {
    if (rng_.uniform() < rank.stall) ms *= 3;
    return ms * (1 + rank.noise * (2 * rng_.uniform() - 1));
  }

  void give(const GangEvent& event) {
    coordinator_.on(event, now_, commands_);
    double attention_ms = 0;  // of the gang step: the slowest member's
    double service_ms = 0;
    for (const GangCommand& command : commands_) {
      if (const auto* start = std::get_if<GangStart>(&command)) {
        const SimulatedRank& rank = states_[static_cast<std::size_t>(start->rank.value())].rank;
        attention_ms = std::max(attention_ms, noisy(rank, rank.attention_ms));
        service_ms = std::max(service_ms, noisy(rank, rank.service_ms));
      }
    }
    for (const GangCommand& command : commands_) {
      if (const auto* start = std::get_if<GangStart>(&command)) {
        State& state = states_[static_cast<std::size_t>(start->rank.value())];
        // Members end together but for the last stage.
        begin(state, start->number, attention_ms + service_ms + 0.2 * rng_.uniform());
        ++state.rank.together;
      } else if (const auto* solo = std::get_if<GangSolo>(&command)) {
        State& state = states_[static_cast<std::size_t>(solo->rank.value())];
        begin(
            state, solo->number,
            noisy(state.rank, state.rank.attention_ms) + noisy(state.rank, state.rank.service_ms));
      } else {
        wake_ = std::get<GangWake>(command).at;
      }
    }
  }

  void begin(State& state, std::uint64_t number, double ms) {
    state.number = number;
    state.running = true;
    state.next = now_ + from_ms(ms);
    ++state.rank.steps;
    state.rank.running_ms += ms;
    state.rank.waiting_ms += to_ms(now_ - state.asked);
  }

  Rng rng_;
  std::unique_ptr<policy::GangPlanner> planner_;
  GangCoordinator coordinator_;
  std::vector<State> states_;
  TimePoint now_{};
  std::optional<TimePoint> wake_;
  std::vector<GangCommand> commands_;
};

TEST(GangCoordinatorPace, EqualRanksMeetAndStayTogether) {
  for (const bool knows_times : {true, false}) {
    for (const std::size_t count : {2, 4}) {
      SimulatedRank rank;
      rank.knows_times = knows_times;
      Simulation simulation(std::vector<SimulatedRank>(count, rank), 1);
      simulation.run(200);
      EXPECT_GT(simulation.together(), 0.97) << count;
      EXPECT_LT(simulation.waiting(), 0.03) << count;
    }
  }
}

TEST(GangCoordinatorPace, NoiseAndStallsDoNotBreakGangsUp) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    SimulatedRank rank{.noise = 0.3, .stall = 0.1};
    rank.knows_times = seed % 2 == 0;
    Simulation simulation(std::vector<SimulatedRank>(2 + seed % 3, rank), seed);
    simulation.run(500);
    EXPECT_GT(simulation.together(), 0.95) << seed;
    EXPECT_LT(simulation.waiting(), 0.05) << seed;
  }
}

TEST(GangCoordinatorPace, RanksWhoseWorkComesAndGoesMeetAgain) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const SimulatedRank rank{.noise = 0.2, .idle = 0.1};
    Simulation simulation(std::vector<SimulatedRank>(3, rank), seed);
    simulation.run(500);
    EXPECT_GT(simulation.together(), 0.75) << seed;
    EXPECT_LT(simulation.waiting(), 0.12) << seed;
  }
}

TEST(GangCoordinatorPace, AShortStepIsHeldUpByALongOneNoLongerThanItself) {
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const SimulatedRank quick{.attention_ms = 1, .service_ms = 1, .noise = 0.2};
    const SimulatedRank slow{
        .attention_ms = 30, .service_ms = 10, .latency_sensitive = false, .noise = 0.2};
    Simulation simulation({quick, slow}, seed, "pairing");
    simulation.run(300);
    EXPECT_EQ(simulation.together(), 0) << seed;  // the planner sends the quick one off
    EXPECT_LT(simulation.rank(0).waiting_ms, 0.15 * simulation.rank(0).running_ms) << seed;
    EXPECT_LT(simulation.rank(1).waiting_ms, 0.10 * simulation.rank(1).running_ms) << seed;
  }
}

}  // namespace
}  // namespace gimbal::cluster
