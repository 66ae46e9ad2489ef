// Whose expert rows are local to which engine, from the rows that ranks send to the decisions that
// follow, on real threads.

#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <utility>

#include "cluster/dispatch_recorder.h"
#include "engine/data_parallel_engine.h"
#include "engine_fixture.h"
#include "policy/expert_map.h"

namespace gimbal::engine {
namespace {

// All experts of every layer at one rank of two.
policy::ExpertMap all_at(const model::Model& model, int rank) {
  const policy::ExpertMapShape shape = ExpertGroup::map_shape(model.config(), 2);
  std::vector<policy::ExpertPlacement> entries;
  for (std::size_t layer = 0; layer < shape.experts_of_layer.size(); ++layer) {
    for (int expert = 0; expert < shape.experts_of_layer[layer]; ++expert) {
      entries.push_back(
          {LayerIndex{static_cast<LayerIndex::rep>(layer)}, ExpertId{expert}, Rank{rank}});
    }
  }
  return policy::ExpertMap::make(shape, 0, entries).value();
}

class LocalExpertRowsTest : public EngineFixture {
 protected:
  std::unique_ptr<DataParallelEngine> start_two(DataParallelOptions options) {
    options.fleet.engines = 2;
    ServingEngineOptions& each = options.fleet.engine;
    each.scheduler.max_num_batched_tokens = 64;
    each.scheduler.max_model_len = 128;
    each.dead_after = std::chrono::minutes(10);
    each.kv_cache_bytes = 64 * model::KvStorage::page_bytes(model_->config(), model_->dtype());
    auto started = DataParallelEngine::start(*model_, options, pool_, sink_);
    EXPECT_TRUE(started.ok()) << started.error().message;
    return std::move(started).value();
  }

  TemporaryFolder folder_;
};

TEST_F(LocalExpertRowsTest, AUserGoesWhereItsExpertRowsAreLocal) {
  DataParallelOptions options{.exchange_ms_per_token = 1e6};
  options.fleet.map = all_at(*model_, 1);
  options.fleet.engine.record_path = folder_.path("record");
  auto engine = start_two(options);
  std::uint64_t id = 0;
  const auto serve = [&] {  // one request of one user, and its decision
    sched::Request made = request(++id, 30, 4);
    made.user_key = 9;
    EXPECT_TRUE(engine->submit({std::move(made)}).ok());
    sink_.wait_for_ends(id);
    return engine->decisions_of(RequestId{id}).back();
  };
  const auto shares = [](const cluster::DecisionRecord& decision) {
    return std::pair(decision.engines[0].local_share, decision.engines[1].local_share);
  };
  EXPECT_EQ(shares(serve()), std::pair(std::optional<double>(), std::optional<double>()));
  for (int i = 0; i < 3; ++i) {
    const cluster::DecisionRecord decision = serve();
    EXPECT_EQ(shares(decision), std::pair(std::optional(0.0), std::optional(1.0)));
    EXPECT_EQ(decision.engine, 1);
  }
  // All experts move: what is known of the user's rows is of no use any more.
  ASSERT_TRUE(engine->experts()->set_expert_map(0, all_at(*model_, 0)).ok());
  EXPECT_EQ(shares(serve()), std::pair(std::optional<double>(), std::optional<double>()));
  const cluster::DecisionRecord decision = serve();
  EXPECT_EQ(shares(decision), std::pair(std::optional(1.0), std::optional(0.0)));
  EXPECT_EQ(decision.engine, 0);
  engine.reset();
  std::ifstream record(options.fleet.engine.record_path + ".dispatch");
  const auto replayed = cluster::replay_dispatch(record);
  ASSERT_TRUE(replayed.ok()) << replayed.error().message;
  EXPECT_EQ(replayed->decisions, id);
}

TEST_F(LocalExpertRowsTest, AnExchangeCostsWhatItsProfileSays) {
  DataParallelOptions options;
  std::uint64_t id = 0;
  const auto price = [&] {
    auto engine = start_two(options);
    EXPECT_TRUE(engine->submit({request(++id, 5, 1)}).ok());
    return engine->decisions_of(RequestId{id}).back().options.exchange_ms_per_token;
  };
  EXPECT_EQ(price(), 0);  // rows do not move
  options.fleet.profile = comm::ExchangeProfile{.ranks_per_node = 2, .same_node = {1, 0.5}};
  const model_config::ModelConfig& config = model_->config();
  const double bytes = 2.0 * config.hidden_size * config.experts_per_token * config.moe_layers();
  EXPECT_DOUBLE_EQ(price(), 2 * bytes / 0.5e9 * 1e3);
  options.exchange_ms_per_token = 3;
  EXPECT_EQ(price(), 3);
  options.exchange_ms_per_token.reset();
  options.fleet.expert_parallel_size = 1;  // nobody shares
  EXPECT_EQ(price(), 0);
}

}  // namespace
}  // namespace gimbal::engine
