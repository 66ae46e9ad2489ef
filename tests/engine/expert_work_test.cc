// What engines' rows made experts do, by layer and rank.

#include "cluster/expert_work.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <utility>
#include <vector>

#include "engine/data_parallel_engine.h"
#include "engine/expert_service.h"
#include "engine_fixture.h"

namespace gimbal::engine {
namespace {

using cluster::by_rank;
using cluster::ExpertWork;
using testing::ElementsAre;

std::uint64_t sum_of(const std::vector<std::uint64_t>& cells) {
  return std::accumulate(cells.begin(), cells.end(), std::uint64_t{0});
}

class ExpertWorkTest : public EngineFixture {
 protected:
  std::unique_ptr<DataParallelEngine> start(int engines, int expert_parallel_size,
                                            cluster::GangPace pace = cluster::GangPace::kGang) {
    DataParallelOptions options;
    options.dispatch.rule = "round-robin";
    options.fleet.engines = engines;
    options.fleet.expert_parallel_size = expert_parallel_size;
    options.fleet.pace = pace;
    ServingEngineOptions& each = options.fleet.engine;
    each.scheduler.max_num_batched_tokens = 64;
    each.scheduler.max_model_len = 128;
    each.dead_after = std::chrono::minutes(10);
    each.kv_cache_bytes = 128 * model::KvStorage::page_bytes(model_->config(), model_->dtype());
    auto started = DataParallelEngine::start(*model_, options, pool_, sink_);
    EXPECT_TRUE(started.ok()) << started.error().message;
    return std::move(started).value();
  }
  // Gives it requests that all have answers of ten tokens, and waits for their ends.
  void serve(DataParallelEngine& engine, int requests) {
    for (int i = 0; i < requests; ++i) {
      const std::uint64_t id = ++requests_;
      ASSERT_TRUE(engine.submit({request(id, 5 + static_cast<int>(id % 40), 10)}).ok());
    }
    sink_.wait_for_ends(requests_);
  }
  // What services ran of a source at a layer and rank, from the counters of single experts.
  std::uint64_t traffic(const DataParallelEngine& engine, LayerIndex layer, int source,
                        int rank) const {
    std::uint64_t rows = 0;
    for (int expert = 0; expert < model_->config().experts; ++expert) {
      rows +=
          engine.experts()->expert_traffic(0, Rank{rank}, layer, Rank{source}, ExpertId{expert});
    }
    return rows;
  }

  std::uint64_t requests_ = 0;
};

TEST_F(ExpertWorkTest, EnginesOfAGroupCountTheirOwnRowsAtEveryRank) {
  const auto engine = start(2, 2);
  serve(*engine, 12);
  const auto status = engine->engine_status();
  const auto services = engine->experts()->expert_groups().at(0).services;
  std::vector<std::uint64_t> distinct(2);  // by rank
  for (int source = 0; source < 2; ++source) {
    const ExpertWork& work = status[static_cast<std::size_t>(source)].expert_work;
    ASSERT_EQ(work.ranks, 2);
    EXPECT_GT(sum_of(work.rows), 0U);
    EXPECT_EQ(sum_of(work.rows), status[static_cast<std::size_t>(source)].snapshot.expert_rows);
    ASSERT_EQ(work.rows.size(), 2U * static_cast<std::size_t>(model_->config().num_layers()));
    for (std::size_t cell = 0; cell < work.rows.size(); ++cell) {
      const int rank = static_cast<int>(cell % 2);
      const LayerIndex layer{static_cast<int>(cell / 2)};
      const bool has_experts = model_->config().is_moe(layer);
      EXPECT_EQ(work.rows[cell], traffic(*engine, layer, source, rank));
      EXPECT_EQ(work.rows[cell] > 0, has_experts);
      EXPECT_EQ(work.distinct_experts[cell] > 0, has_experts);
      EXPECT_LE(work.distinct_experts[cell], work.rows[cell]);
      distinct[cell % 2] += work.distinct_experts[cell];
    }
  }
  for (std::size_t rank = 0; rank < 2; ++rank) {
    // What both caused is counted for both, so together at least what was read.
    EXPECT_GE(distinct[rank], services[rank].distinct_experts);
    EXPECT_LE(distinct[rank], 2 * services[rank].distinct_experts);
  }
}

TEST_F(ExpertWorkTest, AnEngineWithoutRequestsCausesNothing) {
  const auto engine = start(2, 2, cluster::GangPace::kImmediate);
  serve(*engine, 1);
  const auto status = engine->engine_status();
  const auto services = engine->experts()->expert_groups().at(0).services;
  const std::size_t served = status[0].dispatched > 0 ? 0 : 1;
  EXPECT_EQ(sum_of(status[1 - served].expert_work.rows), 0U);
  EXPECT_EQ(sum_of(status[1 - served].expert_work.distinct_experts), 0U);
  const ExpertWork& work = status[served].expert_work;
  EXPECT_THAT(by_rank(work.rows, 2), ElementsAre(services[0].rows, services[1].rows));
  // Alone, it is the cause of all that was read.
  EXPECT_THAT(by_rank(work.distinct_experts, 2),
              ElementsAre(services[0].distinct_experts, services[1].distinct_experts));
}

TEST_F(ExpertWorkTest, EnginesThatShareNothingAreTheirOwnRank) {
  const auto several = start(2, 1);
  serve(*several, 6);
  for (const cluster::EngineStatus& status : several->engine_status()) {
    ASSERT_EQ(status.expert_work.ranks, 1);
    EXPECT_GT(status.snapshot.expert_rows, 0U);
    EXPECT_EQ(sum_of(status.expert_work.rows), status.snapshot.expert_rows);
    EXPECT_EQ(sum_of(status.expert_work.distinct_experts), status.snapshot.distinct_experts);
  }
  EXPECT_EQ(several->expert_work().ranks, 0);  // it is said of each
  const auto one = EngineFixture::start();
  ASSERT_TRUE(one->submit({request(100, 30, 5)}).ok());
  sink_.wait_for_ends(requests_ + 1);
  EXPECT_EQ(one->expert_work().ranks, 1);
  EXPECT_EQ(sum_of(one->expert_work().rows), one->snapshot().expert_rows);
}

// Rows of a layer and two sources, of which both choose expert 1.
TEST_F(ExpertWorkTest, AnExpertThatTwoSourcesShareCountsForBoth) {
  const model_config::ModelConfig& config = model_->config();
  model::RowStore rows(config, model_->dtype(), 1, 8);
  model::StageWorkspace workspace(config, model_->dtype(), rows.rows());
  const kernels::KernelContext context{.pool = pool_, .isa = kernels::best_isa()};
  ManualClock clock;
  ExpertService service(*model_, rows, workspace, clock, 3);
  const LayerIndex layer{config.num_layers() - 1};
  const auto post = [&](int source, std::vector<std::int32_t> experts) {
    std::vector<sched::PostedRow> posted;
    for (std::size_t i = 0; i < experts.size(); ++i) {
      const auto row = static_cast<std::int32_t>(4 * source) + static_cast<std::int32_t>(i);
      posted.push_back({.slot = sched::SourceSlot{row},
                        .row = row % 8,
                        .first_output = row % 8 * static_cast<std::int32_t>(rows.choices())});
    }
    service.post({.source = Rank{source}, .layer = layer, .rows = posted, .experts = experts});
  };
  const auto run_all = [&] {
    while (service.waiting() > 0)
      ASSERT_FALSE(service.run(context).empty());
  };
  post(0, {0, 1});
  post(1, {1, 2});
  post(0, {1});  // again, behind those of the other
  run_all();
  post(0, {1});
  run_all();
  ExpertWork first(config.num_layers(), 3);
  ExpertWork second(config.num_layers(), 3);
  ExpertWork third(config.num_layers(), 3);
  for (const auto& [source, to] :
       {std::pair(0, &first), std::pair(1, &second), std::pair(2, &third)})
    service.report_work(Rank{source}, Rank{2}, *to);
  EXPECT_THAT(by_rank(first.rows, 3), ElementsAre(0, 0, 4));
  EXPECT_THAT(by_rank(first.distinct_experts, 3), ElementsAre(0, 0, 3));  // in one run 2, then 1
  EXPECT_THAT(by_rank(second.rows, 3), ElementsAre(0, 0, 2));
  EXPECT_THAT(by_rank(second.distinct_experts, 3), ElementsAre(0, 0, 2));
  EXPECT_EQ(sum_of(third.rows), 0U);
  EXPECT_EQ(first.rows.back(), 4U);  // the last layer's
  EXPECT_EQ(service.layer_distinct(layer), 4U);
  EXPECT_EQ(service.traffic(layer, Rank{0}, ExpertId{1}), 3U);
  EXPECT_EQ(service.traffic(layer, Rank{1}, ExpertId{1}), 1U);
}

}  // namespace
}  // namespace gimbal::engine
