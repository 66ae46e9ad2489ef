// Whatever rank owns a request and whichever ranks run the experts, by whatever map, with whatever
// delays and in whatever order of threads, it gets the same logits bit for bit
// (docs/architecture.md, "Batch invariance").

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "models/tiny_model.h"
#include "parity/random_scheduler.h"

namespace gimbal::engine {
namespace {

using parity::RandomScheduler;
using parity::TestRank;
using parity::Trace;
using synthetic::Family;

constexpr std::int64_t kBatchRows = parity::kBatchRows;

// A map that puts every expert on one to three ranks with any fractions.
policy::ExpertMap random_map(const policy::ExpertMapShape& shape, std::uint32_t version, Rng& rng) {
  std::vector<policy::ExpertPlacement> entries;
  for (std::size_t layer = 0; layer < shape.experts_of_layer.size(); ++layer) {
    for (int expert = 0; expert < shape.experts_of_layer[layer]; ++expert) {
      const int copies = 1 + static_cast<int>(rng.below(std::min(3, shape.ranks)));
      const int first = static_cast<int>(rng.below(shape.ranks));
      double left = 1;
      for (int copy = 0; copy < copies; ++copy) {
        const double part = copy + 1 == copies ? left : left * (0.2 + 0.6 * rng.uniform());
        left -= part;
        entries.push_back({.layer = LayerIndex{static_cast<std::int32_t>(layer)},
                           .expert = ExpertId{expert},
                           .rank = Rank{(first + copy) % shape.ranks},
                           .fraction = part});
      }
    }
  }
  auto map = policy::ExpertMap::make(shape, version, entries);
  EXPECT_TRUE(map.ok()) << map.error().message;
  return std::move(map).value();
}

struct Ranks {
  int count = 2;
  bool shared = true;
  bool delays = false;
  bool swaps = false;    // new maps while it runs
  bool retires = false;  // one rank goes when it is done, the others go on
};

// Whoever is done runs its experts for those that are not.
void serve_others(ExpertGroup& group, GroupPort& port, const std::atomic<int>& working) {
  while (working.load() > 0) {
    const std::uint32_t rung = group.bell(port.rank()).rings();
    if (!port.serve() && working.load() > 0) {
      group.bell(port.rank()).wait(rung, port.time_to_next_arrival());
    }
  }
}

// One run of all ranks, each on a thread of its own; what all of them said together.
Trace run_ranks(const model::Model& model, ThreadPool& pool, kernels::Isa isa, const Ranks& ranks,
                std::uint64_t seed) {
  const SteadyClock clock;
  Rng rng(seed);
  ExpertGroupOptions options{.ranks = ranks.count,
                             .executor = {.max_batch_rows = kBatchRows},
                             .shared_workers = ranks.shared};
  if (ranks.delays) {
    options.profile = {.ranks_per_node = 2,
                       .same_node = {.latency_us = 20, .gb_per_s = 1},
                       .other_node = {.latency_us = 70, .gb_per_s = 0.5}};
  }
  auto made = ExpertGroup::make(model, options, clock);
  EXPECT_TRUE(made.ok()) << made.error().message;
  ExpertGroup& group = **made;
  const policy::ExpertMapShape shape = group.map()->shape();
  if (seed % 2 == 1) {
    EXPECT_TRUE(group.set_map(random_map(shape, 2, rng)).ok());
  }

  std::vector<std::unique_ptr<ThreadPool>> own;
  std::vector<Trace> traces(static_cast<std::size_t>(ranks.count));
  std::vector<std::thread> threads;
  std::atomic<int> working{ranks.count};
  for (int rank = 0; rank < ranks.count; ++rank) {
    if (!ranks.shared) {
      own.push_back(std::make_unique<ThreadPool>(ThreadPoolOptions{.workers = 1, .pin = false}));
    }
    ThreadPool& workers = ranks.shared ? pool : *own.back();
    threads.emplace_back([&, rank] {
      GroupPort port(group, Rank{rank}, {.pool = workers, .isa = isa});
      const TestRank place{group, port};
      RandomScheduler scheduler(model, {.pool = workers, .isa = isa, .interrupt = &port},
                                seed * 100 + static_cast<std::uint64_t>(rank) + 1, &place);
      traces[static_cast<std::size_t>(rank)] = scheduler.run();
      working.fetch_sub(1);
      group.ring_all();
      if (ranks.retires && rank == 0) {
        group.retire(Rank{0});
        return;
      }
      serve_others(group, port, working);
    });
  }
  while (ranks.swaps && working.load() > 1) {
    EXPECT_TRUE(group.set_map(random_map(shape, 0, rng)).ok());
    std::this_thread::yield();
  }
  for (std::thread& thread : threads)
    thread.join();
  Trace all;
  for (const Trace& trace : traces) {
    all.logits.insert(trace.logits.begin(), trace.logits.end());
    all.tokens.insert(trace.tokens.begin(), trace.tokens.end());
  }
  return all;
}

class RankInvariance : public ::testing::TestWithParam<Family> {};

TEST_P(RankInvariance, RanksMapsDelaysAndSchedulesGiveTheSameBits) {
  ThreadPool pool({.workers = 2, .pin = false});
  const auto model =
      tests::make_and_load(tests::tiny_options(GetParam()), tensor::DType::kBF16, pool);
  const kernels::Isa isa = kernels::best_isa();
  const Trace plain = RandomScheduler(*model, {.pool = pool, .isa = isa}, 0).run();
  std::uint64_t seed = 0;
  for (const int count : {2, 3, 4}) {
    for (const bool shared : {true, false}) {
      for (const Ranks& ranks :
           {Ranks{count, shared}, Ranks{.count = count, .shared = shared, .delays = true},
            Ranks{.count = count, .shared = shared, .swaps = true},
            Ranks{.count = count, .shared = shared, .retires = true}}) {
        const Trace trace = run_ranks(*model, pool, isa, ranks, ++seed);
        EXPECT_EQ(trace.tokens, plain.tokens) << "seed " << seed;
        EXPECT_EQ(trace.logits, plain.logits) << "seed " << seed;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, RankInvariance,
                         ::testing::Values(Family::kMixtral, Family::kQwen2Moe, Family::kQwen3Moe,
                                           Family::kOlmoe),
                         [](const ::testing::TestParamInfo<Family>& each) {
                           return std::string(model_config::model_type_of(each.param));
                         });

}  // namespace
}  // namespace gimbal::engine
