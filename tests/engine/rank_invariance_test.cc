// Whatever rank owns a request and whichever ranks run the experts, by whatever map, with whatever
// delays and in whatever order of threads, it gets the same logits bit for bit.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "models/tiny_model.h"
#include "parity/random_scheduler.h"
#include "random_map.h"

namespace gimbal::engine {
namespace {

using parity::GangStep;
using parity::RandomScheduler;
using parity::TestRank;
using parity::Trace;
using synthetic::Family;

constexpr std::int64_t kBatchRows = parity::kBatchRows;

// How one rank, drawn at random, ends before the others.
enum class End : std::uint8_t {
  kNone,
  kRetires,   // it has finished, and goes
  kDies,      // in mid-step, with rows at services
  kDeclared,  // others say that it is dead, at any time; it does not know and goes on for a while
};

struct Ranks {
  int count = 2;
  bool shared = true;
  bool delays = false;
  bool swaps = false;  // new maps while it runs
  bool gang = false;   // some steps are those of gangs
  bool late = false;   // whose holds end soon
  End end = End::kNone;
};

// What all ranks of a run said together, but for one that died.
struct Outcome {
  Trace all;
  std::optional<Trace> dead;
  int died_in_step = 0;
  int gang_batches = 0;
  int late = 0;  // members, steps and services that did not wait for them
};

ExpertGroupOptions group_options(const Ranks& ranks) {
  ExpertGroupOptions options{.ranks = ranks.count,
                             .executor = {.max_batch_rows = kBatchRows},
                             .shared_workers = ranks.shared};
  if (ranks.delays) {
    options.profile = {.ranks_per_node = 2,
                       .same_node = {.latency_us = 20, .gb_per_s = 1},
                       .other_node = {.latency_us = 70, .gb_per_s = 0.5}};
  }
  return options;
}

// More gang steps than the ranks have batches, each of any ranks.
std::vector<GangStep> random_gang_steps(const Ranks& ranks, Rng& rng) {
  std::vector<GangStep> steps;
  std::uint64_t number = 0;
  for (int i = 0; i < 150; ++i) {
    number += 1 + rng.below(3);
    GangStep& step = steps.emplace_back();
    step.number = number;
    step.members = 1 + rng.below((std::uint64_t{1} << ranks.count) - 1);
    if (ranks.late && rng.below(3) != 0)
      step.hold_limit = std::chrono::microseconds(1 + rng.below(300));
  }
  return steps;
}

// Goes on running experts for as long as others may need them.
void serve_others(ExpertGroup& group, GroupPort& port, const std::atomic<int>& working) {
  while (working.load() > 0) {
    const std::uint32_t rung = group.life().bell(port.rank().value()).rings();
    if (!port.serve() && working.load() > 0) {
      group.life().bell(port.rank().value()).wait(rung, port.time_to_next_due());
    }
  }
}

// One map after the other while ranks work; at some time `ending` may be declared dead.
void swap_maps(ExpertGroup& group, const Ranks& ranks, Rank ending, const std::atomic<int>& working,
               Rng& rng) {
  const policy::ExpertMapShape shape = group.map()->shape();
  const int declared_after = static_cast<int>(rng.below(40));
  for (int swap = 0; working.load() > 1; ++swap) {
    if (ranks.end == End::kDeclared && swap == declared_after) group.retire(ending);
    policy::ExpertMap map = random_map(shape, 0, rng);
    if (!group.alive(ending)) map = map.without_rank(ending);
    const auto set = group.set_map(std::move(map));
    EXPECT_TRUE(set.ok() || ranks.end != End::kNone) << set.error().message;
    std::this_thread::yield();
  }
}

// One run of all ranks, each on a thread of its own.
Outcome run_ranks(const model::Model& model, ThreadPool& pool, kernels::Isa isa, const Ranks& ranks,
                  std::uint64_t seed) {
  const SteadyClock clock;
  Rng rng(seed);
  auto made = ExpertGroup::make(model, group_options(ranks), clock);
  EXPECT_TRUE(made.ok()) << made.error().message;
  ExpertGroup& group = **made;
  if (seed % 2 == 1) {
    EXPECT_TRUE(group.set_map(random_map(group.map()->shape(), 2, rng)).ok());
  }
  std::vector<GangStep> gang;
  if (ranks.gang) gang = random_gang_steps(ranks, rng);
  const Rank ending{static_cast<int>(rng.below(static_cast<std::uint64_t>(ranks.count)))};
  const int dies_at_wait = 1 + static_cast<int>(rng.below(12));

  Outcome outcome;
  std::vector<std::unique_ptr<ThreadPool>> own;
  std::vector<Trace> traces(static_cast<std::size_t>(ranks.count));
  std::vector<std::thread> threads;
  std::atomic<int> working{ranks.count};
  std::atomic<int> gang_batches{0};
  std::atomic<int> late{0};
  for (int rank = 0; rank < ranks.count; ++rank) {
    if (!ranks.shared) {
      own.push_back(std::make_unique<ThreadPool>(ThreadPoolOptions{.workers = 1, .pin = false}));
    }
    ThreadPool& workers = ranks.shared ? pool : *own.back();
    threads.emplace_back([&, rank] {
      const bool ends = Rank{rank} == ending && ranks.end != End::kNone;
      GroupPort port(group, Rank{rank}, {.pool = workers, .isa = isa});
      TestRank place{.group = group, .port = port, .gang = gang, .dies_at_wait = {}};
      if (ends && ranks.end == End::kDies) place.dies_at_wait = dies_at_wait;
      RandomScheduler scheduler(model, {.pool = workers, .isa = isa, .interrupt = &port},
                                seed * 100 + static_cast<std::uint64_t>(rank) + 1, &place);
      traces[static_cast<std::size_t>(rank)] = scheduler.run();
      gang_batches.fetch_add(scheduler.gang_batches());
      if (scheduler.died()) outcome.died_in_step = 1;  // one rank at most
      working.fetch_sub(1);
      group.ring_all();
      if (ends) {
        group.retire(Rank{rank});
      } else {
        serve_others(group, port, working);
      }
      late.fetch_add(static_cast<int>(port.late().size()));
    });
  }
  if (ranks.swaps) swap_maps(group, ranks, ending, working, rng);
  for (std::thread& thread : threads)
    thread.join();
  outcome.gang_batches = gang_batches.load();
  outcome.late = late.load();
  if (outcome.died_in_step > 0) {
    outcome.dead = std::exchange(traces[static_cast<std::size_t>(ending.value())], {});
  }
  for (const Trace& trace : traces) {
    outcome.all.logits.insert(trace.logits.begin(), trace.logits.end());
    outcome.all.tokens.insert(trace.tokens.begin(), trace.tokens.end());
  }
  return outcome;
}

// What the dead rank had said before is the beginning of what it would have; removed from `plain`
// is what it has to do with.
void take_out_the_dead(const Trace& dead, Trace& plain) {
  for (const auto& [place, hash] : dead.logits)
    EXPECT_EQ(hash, plain.logits.at(place));
  for (const auto& [request, tokens] : dead.tokens) {
    const std::vector<TokenId>& whole = plain.tokens.at(request);
    ASSERT_LE(tokens.size(), whole.size());
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), whole.begin()));
    std::erase_if(plain.logits, [&](const auto& each) { return each.first.first == request; });
    plain.tokens.erase(request);
  }
}

class RankInvariance : public ::testing::TestWithParam<Family> {
 protected:
  struct Totals {
    int died_in_step = 0;
    int gang_batches = 0;
    int late = 0;
  };

  // Runs each of `what` with any number of ranks and both kinds of workers.
  Totals compare(const std::vector<Ranks>& what) {
    ThreadPool pool({.workers = 2, .pin = false});
    const auto model =
        tests::make_and_load(tests::tiny_options(GetParam()), tensor::DType::kBF16, pool);
    const kernels::Isa isa = kernels::best_isa();
    const Trace plain = RandomScheduler(*model, {.pool = pool, .isa = isa}, 0).run();
    std::uint64_t seed = 0;
    Totals totals;
    for (const int count : {2, 3, 4}) {
      for (const bool shared : {true, false}) {
        for (Ranks ranks : what) {
          ranks.count = count;
          ranks.shared = shared;
          SCOPED_TRACE(testing::Message() << "seed " << ++seed);
          const Outcome outcome = run_ranks(*model, pool, isa, ranks, seed);
          Trace expected = plain;
          if (outcome.dead) take_out_the_dead(*outcome.dead, expected);
          EXPECT_EQ(outcome.all.tokens, expected.tokens);
          EXPECT_EQ(outcome.all.logits, expected.logits);
          totals.died_in_step += outcome.died_in_step;
          totals.gang_batches += outcome.gang_batches;
          totals.late += outcome.late;
        }
      }
    }
    return totals;
  }
};

TEST_P(RankInvariance, RanksMapsDelaysAndSchedulesGiveTheSameBits) {
  compare({{}, {.delays = true}, {.swaps = true}, {.end = End::kRetires}});
}

TEST_P(RankInvariance, GangStepsOfAnyRanksGiveTheSameBits) {
  const Totals totals = compare({{.gang = true},
                                 {.delays = true, .gang = true},
                                 {.swaps = true, .gang = true},
                                 {.delays = true, .swaps = true, .gang = true}});
  EXPECT_GT(totals.gang_batches, 100);
}

TEST_P(RankInvariance, RanksThatAreNotWaitedForGiveTheSameBits) {
  const Totals totals = compare({{.gang = true, .late = true},
                                 {.delays = true, .gang = true, .late = true},
                                 {.swaps = true, .gang = true, .late = true},
                                 {.gang = true, .late = true, .end = End::kDies}});
  EXPECT_GT(totals.late, 50);
}

TEST_P(RankInvariance, ARankThatDiesInMidStepLeavesTheOthersTheirBits) {
  const Totals totals = compare({{.end = End::kDies},
                                 {.gang = true, .end = End::kDies},
                                 {.delays = true, .gang = true, .end = End::kDies},
                                 {.swaps = true, .gang = true, .end = End::kDies},
                                 {.swaps = true, .gang = true, .end = End::kDeclared}});
  EXPECT_GT(totals.died_in_step, 10);
}

INSTANTIATE_TEST_SUITE_P(Families, RankInvariance,
                         ::testing::Values(Family::kMixtral, Family::kQwen2Moe, Family::kQwen3Moe,
                                           Family::kOlmoe),
                         [](const ::testing::TestParamInfo<Family>& each) {
                           return std::string(model_config::model_type_of(each.param));
                         });

}  // namespace
}  // namespace gimbal::engine
