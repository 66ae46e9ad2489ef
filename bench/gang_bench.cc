// Times what keeping ranks in step costs beside the steps themselves: the gang planner, the
// coordinator, the holds of a service, destinations in an expert map, and an event of a trace.
// Medians over rounds, because other programs use the machine too.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/trace.h"
#include "cluster/gang_coordinator.h"
#include "policy/expert_map.h"
#include "policy/gang_planner.h"
#include "sched/gang_holds.h"

namespace gimbal::bench {
namespace {

constexpr std::array kRankCounts = {2, 4, 16, 64};

// Prints the median time of one of the `count` things that `run` does.
void report(const std::string& what, int rounds, int count, const std::function<void()>& run) {
  std::vector<double> ns;
  for (int round = 0; round < rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
    ns.push_back(spent.count() / count);
  }
  std::sort(ns.begin(), ns.end());
  std::printf("%-52s %10.1f ns\n", what.c_str(), ns[ns.size() / 2]);
}

policy::GangMember member(int rank, Rng& rng) {
  policy::GangMember member{.rank = Rank{rank},
                            .decodes = static_cast<int>(rng.below(64)),
                            .decode_context = 20'000,
                            .want = static_cast<int>(rng.below(512)),
                            .most = 2048,
                            .max_rows = 2048,
                            .latency_sensitive = rng.below(4) != 0};
  member.times.emplace();
  member.times->coefficients = {.attention = {2, 0.01, 0.05, 1e-5, 1e-7},
                                .service = {1, 0.005, 0.02}};
  member.times->experts = {.experts = 6144, .choices_per_row = 384};
  return member;
}

void planner(int rounds) {
  for (const char* name : {"as-wanted", "pairing"}) {
    const auto planner = policy::make_gang_planner(name, {}).value();
    for (const int ranks : kRankCounts) {
      Rng rng(1);
      std::vector<policy::GangMember> members;
      for (int rank = 0; rank < ranks; ++rank)
        members.push_back(member(rank, rng));
      policy::GangPlan plan;
      report(std::string("plan ") + name + ", " + std::to_string(ranks) + " ranks", rounds, 100,
             [&] {
               for (int i = 0; i < 100; ++i)
                 planner->plan({.members = members, .layers = 48}, plan);
             });
    }
  }
}

void coordinator(int rounds) {
  const auto planner = policy::make_gang_planner("as-wanted", {}).value();
  for (const int ranks : kRankCounts) {
    Rng rng(1);
    cluster::GangCoordinator coordinator({.ranks = ranks, .layers = 48}, *planner);
    std::vector<cluster::GangCommand> commands;
    std::vector<std::uint64_t> seen(static_cast<std::size_t>(ranks));
    std::vector<policy::GangMember> members;
    for (int rank = 0; rank < ranks; ++rank)
      members.push_back(member(rank, rng));
    TimePoint now{};
    report("coordinator, an event, " + std::to_string(ranks) + " ranks", rounds, 200 * ranks, [&] {
      for (int step = 0; step < 100; ++step) {
        now += from_ms(10);
        for (int rank = 0; rank < ranks; ++rank) {
          const auto at = static_cast<std::size_t>(rank);
          coordinator.on(cluster::GangStepEnded{Rank{rank}, seen[at]}, now, commands);
          coordinator.on(cluster::GangIntent{members[at], seen[at]}, now, commands);
          for (const cluster::GangCommand& command : commands) {
            if (const auto* start = std::get_if<cluster::GangStart>(&command)) {
              seen[static_cast<std::size_t>(start->rank.value())] = start->number;
            } else if (const auto* solo = std::get_if<cluster::GangSolo>(&command)) {
              seen[static_cast<std::size_t>(solo->rank.value())] = solo->number;
            }
          }
        }
      }
    });
    std::printf(
        "  (%llu of %llu answers were starts of gang steps)\n",
        static_cast<unsigned long long>(coordinator.counters().joins),
        static_cast<unsigned long long>(rounds) * 100 * static_cast<unsigned long long>(ranks));
  }
}

void holds(int rounds) {
  constexpr int kLayers = 48;
  for (const int ranks : kRankCounts) {
    sched::GangHolds holds({.ranks = ranks, .layers = kLayers, .posts_per_member = kLayers});
    sched::GangRelease release;
    const sched::RankSet members =
        ranks == 64 ? ~sched::RankSet{0} : (sched::RankSet{1} << ranks) - 1;
    std::uint64_t step = 0;
    report("holds, a post, " + std::to_string(ranks) + " ranks", rounds, ranks * kLayers, [&] {
      ++step;
      for (int layer = 0; layer < kLayers; ++layer) {
        for (int rank = 0; rank < ranks; ++rank)
          holds.post({Rank{rank}, LayerIndex{layer}, step, members, rank}, release);
      }
    });
  }
}

void destinations(int rounds) {
  constexpr int kExperts = 128;
  const auto shape = policy::ExpertMapShape::uniform(1, kExperts, 4);
  for (const int copies : {1, 2, 4}) {
    std::vector<policy::ExpertPlacement> entries;
    for (int expert = 0; expert < kExperts; ++expert) {
      for (int copy = 0; copy < copies; ++copy)
        entries.push_back(
            {LayerIndex{0}, ExpertId{expert}, Rank{(expert + copy) % 4}, 1.0 / copies});
    }
    const auto map = policy::ExpertMap::make(shape, 1, entries).value();
    volatile std::int64_t sink = 0;
    report("destination of a row, " + std::to_string(copies) + " copies", rounds, 4096, [&] {
      std::int64_t sum = 0;
      for (int row = 0; row < 4096; ++row)
        sum += map.destination(LayerIndex{0}, ExpertId{row * 37 % kExperts},
                               static_cast<std::uint64_t>(row))
                   .value();
      sink = sum;
    });
  }
}

void tracing(int rounds) {
  std::ostringstream out;
  Trace trace(out, {.max_events = ~std::size_t{0}});
  const TraceTrack track = trace.add_track(trace.add_process("engine"), "stages");
  const TimePoint time{};
  report("trace, an event", rounds, 1000, [&] {
    for (int i = 0; i < 1000; ++i)
      trace.complete(track, "attention", time, time, {{"rows", static_cast<double>(i)}});
  });
  report("trace, text of an event", rounds, 1000, [&] {
    for (int i = 0; i < 1000; ++i)
      trace.complete(track, "attention", time, time, {{"rows", static_cast<double>(i)}});
    trace.flush();
    out.str("");
  });
}

}  // namespace
}  // namespace gimbal::bench

int main(int argc, char** argv) {
  CLI::App app("times the coordination of ranks that share experts");
  int rounds = 101;
  app.add_option("--rounds", rounds, "each figure is the median of these")
      ->check(CLI::Range(1, 100'000));
  CLI11_PARSE(app, argc, argv);
  gimbal::bench::planner(rounds);
  gimbal::bench::coordinator(rounds);
  gimbal::bench::holds(rounds);
  gimbal::bench::destinations(rounds);
  gimbal::bench::tracing(rounds);
  return 0;
}
