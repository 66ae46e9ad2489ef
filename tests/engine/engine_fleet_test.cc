// The engines of one process together: their options, and what is drawn and recorded of them.

#include "engine/engine_fleet.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include "base/json.h"
#include "base/temporary_folder.h"
#include "base/trace.h"
#include "cluster/gang_recorder.h"
#include "engine_fixture.h"
#include "sched/routing_record.h"

namespace gimbal::engine {
namespace {

class EngineFleetTest : public EngineFixture {
 protected:
  EngineFleetOptions options(int engines, int expert_parallel_size) {
    EngineFleetOptions fleet;
    fleet.engines = engines;
    fleet.expert_parallel_size = expert_parallel_size;
    fleet.engine.scheduler.max_num_batched_tokens = 64;
    fleet.engine.scheduler.max_num_seqs = 8;
    fleet.engine.scheduler.max_model_len = 128;
    fleet.engine.kv_cache_bytes =
        64 * model::KvStorage::page_bytes(model_->config(), model_->dtype());
    fleet.engine.dead_after = std::chrono::minutes(10);
    return fleet;
  }

  std::unique_ptr<EngineFleet> start(const EngineFleetOptions& fleet) {
    const std::vector<cluster::TokenSink*> sinks(static_cast<std::size_t>(fleet.engines), &sink_);
    auto started = EngineFleet::start(*model_, fleet, pool_, sinks);
    EXPECT_TRUE(started.ok()) << started.error().message;
    return std::move(started).value();
  }

  // Gives engine i the requests i, i + engines, … and waits for their ends.
  void serve(EngineFleet& fleet, int requests) {
    for (int id = 1; id <= requests; ++id) {
      ASSERT_TRUE(fleet.engine(id % fleet.size())
                      .submit({request(static_cast<std::uint64_t>(id), 5 + 7 * id, 6)})
                      .ok());
    }
    sink_.wait_for_ends(static_cast<std::size_t>(requests));
  }
};

TEST_F(EngineFleetTest, SizesThatDoNotFitAreNamed) {
  const struct {
    int engines;
    int size;
    int experts;
    const char* field;
  } cases[] = {
      {0, 1, 8, "data_parallel_size"},         {4, 3, 8, "expert_parallel_size"},
      {16, 16, 8, "expert_parallel_size"},     {16, 0, 8, "expert_parallel_size"},
      {2, 2, 0, "expert_parallel_size"},       {4, -1, 8, "expert_parallel_size"},
      {128, 128, 256, "expert_parallel_size"},
  };
  for (const auto& [engines, size, experts, field] : cases) {
    EngineFleetOptions fleet;
    fleet.engines = engines;
    fleet.expert_parallel_size = size;
    const auto checked = EngineFleet::check(fleet, experts);
    ASSERT_FALSE(checked.ok()) << engines << " " << size << " " << experts;
    EXPECT_EQ(checked.error().field, field);
  }
  for (const auto& [engines, size, experts] :
       {std::array{1, 0, 8}, std::array{4, 2, 8}, std::array{4, 1, 0}, std::array{2, 0, 0}}) {
    EngineFleetOptions fleet;
    fleet.engines = engines;
    fleet.expert_parallel_size = size;
    EXPECT_TRUE(EngineFleet::check(fleet, experts).ok()) << engines << " " << size;
  }
}

TEST_F(EngineFleetTest, RowsOutOfRangeAreRefusedBeforeTheyTakeMemory) {
  for (const int rows : {-1, 0, 2'000'000'000}) {
    EngineFleetOptions fleet = options(2, 2);
    fleet.engine.scheduler.max_num_batched_tokens = rows;
    const std::vector<cluster::TokenSink*> sinks(2, &sink_);
    const auto started = EngineFleet::start(*model_, fleet, pool_, sinks);
    ASSERT_FALSE(started.ok()) << rows;
    EXPECT_EQ(started.error().field, "max_num_batched_tokens");
  }
}

TEST_F(EngineFleetTest, GangsDecideTheSameAgain) {
  const TemporaryFolder folder;
  std::uint64_t gang_steps = 0;
  std::size_t ends = 0;
  for (const cluster::GangPace pace :
       {cluster::GangPace::kGang, cluster::GangPace::kLockstep, cluster::GangPace::kImmediate}) {
    EngineFleetOptions all = options(4, 2);
    all.pace = pace;
    all.engine.record_path = folder.path("record");
    auto fleet = start(all);
    for (std::uint64_t id = 1; id <= 24; ++id) {
      ASSERT_TRUE(fleet->engine(static_cast<int>(id % 4))
                      .submit({request(id + ends * 1000, 5 + static_cast<int>(id), 12)})
                      .ok());
    }
    sink_.wait_for_ends(ends += 24);
    const auto groups = fleet->expert_groups();
    fleet.reset();
    for (std::size_t group = 0; group < 2; ++group) {
      std::ifstream in(folder.path("record.gang" + std::to_string(group)));
      const auto replay = cluster::replay_gang(in);
      ASSERT_TRUE(replay.ok()) << replay.error().message;
      EXPECT_GT(replay->events, 0U);
      EXPECT_GE(replay->commands, groups[group].gang.joins);
      gang_steps += groups[group].gang.gang_steps;
    }
  }
  EXPECT_GT(gang_steps, 0U);
}

TEST_F(EngineFleetTest, GroupsShareExpertsAmongThemselves) {
  const auto fleet = start(options(4, 2));
  serve(*fleet, 8);
  const auto groups = fleet->expert_groups();
  ASSERT_EQ(groups.size(), 2U);
  for (std::size_t group = 0; group < 2; ++group) {
    std::uint64_t rows = 0;
    std::uint64_t traffic = 0;
    for (std::size_t rank = 0; rank < 2; ++rank) {
      EXPECT_EQ(groups[group].services[rank].engine.value(), static_cast<int>(2 * group + rank));
      rows += groups[group].services[rank].rows;
    }
    const auto map = fleet->expert_map(group);
    for (int layer = 0; layer < map->layers(); ++layer) {
      for (int expert = 0; expert < map->experts(LayerIndex{layer}); ++expert) {
        for (int rank = 0; rank < 4; ++rank) {
          traffic += fleet->expert_traffic(group, Rank{rank / 2}, LayerIndex{layer}, Rank{rank % 2},
                                           ExpertId{expert});
        }
      }
    }
    EXPECT_GT(rows, 0U);
    EXPECT_EQ(traffic, rows);  // every row at one expert, from one source, is counted once
  }
}

TEST_F(EngineFleetTest, MapsAreSwappedWhileServing) {
  const auto fleet = start(options(2, 2));
  ASSERT_TRUE(fleet->engine(0).submit({request(1, 40, 60)}).ok());
  sink_.wait_for_tokens(RequestId{1}, 5);
  const auto map = fleet->expert_map(0);
  std::vector<policy::ExpertPlacement> all_on_second;
  for (int layer = 0; layer < map->layers(); ++layer) {
    for (int expert = 0; expert < map->experts(LayerIndex{layer}); ++expert)
      all_on_second.push_back({LayerIndex{layer}, ExpertId{expert}, Rank{1}, 1.0});
  }
  const auto version =
      fleet->set_expert_map(0, *policy::ExpertMap::make(map->shape(), 0, all_on_second));
  ASSERT_TRUE(version.ok()) << version.error().message;
  EXPECT_EQ(*version, map->version() + 1);
  sink_.wait_for_ends(1);
  const std::uint64_t first = fleet->expert_groups()[0].services[0].rows;
  ASSERT_TRUE(fleet->engine(0).submit({request(2, 40, 10)}).ok());
  sink_.wait_for_ends(2);
  EXPECT_EQ(fleet->expert_groups()[0].services[0].rows, first);  // it runs nothing any more
  const auto wrong = fleet->set_expert_map(
      0, policy::ExpertMap::linear(policy::ExpertMapShape::uniform(1, 2, 2), 9));
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().field, "expert_map");
}

// Memory that this process has now.
std::int64_t resident_bytes() {
  std::int64_t all = 0;
  std::int64_t resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

TEST_F(EngineFleetTest, WeightsAreInMemoryOnceForAllEngines) {
  synthetic::SyntheticOptions large = tests::tiny_options(synthetic::Family::kQwen3Moe);
  large.moe_intermediate_size = 3072;
  large.experts = 32;
  model_ = tests::make_and_load(large, tensor::DType::kBF16, pool_);
  ASSERT_GT(model_->weight_bytes(), 64 << 20);
  std::int64_t before = 0;
  for (const int engines : {1, 3}) {
    const std::size_t ended = sink_.stories().size();
    const auto fleet = start(options(engines, engines));
    for (std::uint64_t id = 1; id <= 6; ++id) {
      ASSERT_TRUE(fleet->engine(static_cast<int>(id) % engines)
                      .submit({request(100 * static_cast<std::uint64_t>(engines) + id, 60, 6)})
                      .ok());
    }
    sink_.wait_for_ends(ended + 6);
    const std::int64_t now = resident_bytes();
    ASSERT_GT(now, model_->weight_bytes());
    if (engines > 1) {
      EXPECT_LT(now - before, model_->weight_bytes() / 2);
    }
    before = now;
  }
}

TEST_F(EngineFleetTest, ARankWithoutWorkPostsNothing) {
  for (const cluster::GangPace pace :
       {cluster::GangPace::kGang, cluster::GangPace::kImmediate, cluster::GangPace::kLockstep}) {
    for (const RankWorkers workers : {RankWorkers::kShared, RankWorkers::kOwn}) {
      EngineFleetOptions of = options(3, 3);
      of.pace = pace;
      of.workers = workers;
      const auto fleet = start(of);
      const std::size_t ended = sink_.stories().size();
      for (std::uint64_t i = 1; i <= 4; ++i)
        ASSERT_TRUE(fleet->engine(0).submit({request(ended + i, 40, 20)}).ok());
      sink_.wait_for_ends(ended + 4);
      const cluster::GroupReading group = fleet->expert_groups().at(0);
      std::array<std::uint64_t, 3> rows{};  // by source
      const auto map = fleet->expert_map(0);
      for (int layer = 0; layer < map->layers(); ++layer) {
        for (int expert = 0; expert < map->experts(LayerIndex{layer}); ++expert) {
          for (int i = 0; i < 9; ++i) {
            rows[static_cast<std::size_t>(i % 3)] += fleet->expert_traffic(
                0, Rank{i / 3}, LayerIndex{layer}, Rank{i % 3}, ExpertId{expert});
          }
        }
      }
      EXPECT_GT(rows[0], 0U);
      if (pace == cluster::GangPace::kLockstep) {  // the baseline: steps without work
        EXPECT_GT(group.gang.dummies, 0U);
        EXPECT_GT(rows[1], 0U);
        EXPECT_GT(rows[2], 0U);
        continue;
      }
      // No rows, and no posts without rows: those are of gang steps.
      EXPECT_EQ(rows[1] + rows[2], 0U);
      EXPECT_EQ(group.gang.gang_steps, 0U);
      EXPECT_EQ(group.services[0].bytes_in, 0U);  // nothing came from others
      for (int rank = 0; rank < 3; ++rank) {
        const cluster::ServiceReading& service = group.services[static_cast<std::size_t>(rank)];
        EXPECT_GT(service.rows, 0U);  // of the rank that has work
        EXPECT_EQ(service.holds, 0U);
        EXPECT_EQ(fleet->engine(rank).snapshot().steps > 0, rank == 0);
      }
    }
  }
}

TEST_F(EngineFleetTest, ATraceHasBatchesServicesAndRequests) {
  std::stringstream text;
  {
    Trace trace(text);
    EngineFleetOptions fleet = options(2, 2);
    fleet.engine.trace = &trace;
    serve(*start(fleet), 6);
    ASSERT_TRUE(trace.finish().ok());
  }
  const auto json = parse_json(text.str());
  ASSERT_TRUE(json.ok()) << json.error().message;
  std::map<std::string, int> names;
  std::map<std::string, int> spans;
  for (const Json& event : (*json)["traceEvents"]) {
    ++names[event["name"].get<std::string>()];
    const auto phase = event["ph"].get<std::string>();
    if (phase == "b" || phase == "e")
      spans[event["name"].get<std::string>()] += phase == "b" ? 1 : -1;
  }
  for (const char* name : {"attention", "router", "experts", "layer", "run", "queue"})
    EXPECT_GT(names[name], 0) << name;
  EXPECT_GT(names["batch"] + names["gang batch"], 0);
  for (const char* name : {"queued", "prefill", "decode"}) {
    EXPECT_EQ(names[name], 2 * 6) << name;  // a begin and an end for each request
    EXPECT_EQ(spans[name], 0) << name;
  }
}

// What a trace has of one expert service.
struct DrawnService {
  std::set<std::string> tracks;
  std::set<double> run_starts;
  double rows_of_runs = 0;
  double rows_of_queues = 0;
  std::map<std::string, double> queued_since;  // by span
  int queues = 0;
};

// By the name of their process.
std::map<std::string, DrawnService> services_in(const Json& trace) {
  std::map<int, std::string> processes;
  std::map<std::string, DrawnService> services;
  for (const Json& event : trace["traceEvents"]) {
    const int process = event["pid"];
    const std::string name = event["name"];
    if (name == "process_name") processes[process] = event["args"]["name"];
    if (!processes[process].starts_with("experts")) continue;
    DrawnService& service = services[processes[process]];
    if (name == "thread_name") service.tracks.insert(event["args"]["name"]);
    if (name == "run") {
      service.run_starts.insert(event["ts"].get<double>());
      service.rows_of_runs += event["args"]["rows"].get<double>();
    }
    if (name != "queue") continue;
    double& since = service.queued_since[event["id2"]["local"]];
    if (event["ph"] == "b") {
      since = event["ts"];
      service.rows_of_queues += event["args"]["rows"].get<double>();
      EXPECT_GE(event["args"]["rows"], event["args"]["queues"]);
      EXPECT_GE(event["args"]["mean_ms"], 0);
    } else {
      ++service.queues;
      EXPECT_LE(since, event["ts"]);
      EXPECT_TRUE(service.run_starts.contains(event["ts"])) << "it waits for a run";
    }
  }
  return services;
}

TEST_F(EngineFleetTest, ATraceHasTheQueuesOfEveryService) {
  for (const int size : {1, 2}) {
    SCOPED_TRACE(size);
    std::stringstream text;
    std::vector<std::uint64_t> rows(2);  // that each service ran
    {
      Trace trace(text);
      EngineFleetOptions of = options(2, size);
      of.engine.trace = &trace;
      const auto fleet = start(of);
      const std::size_t ended = sink_.stories().size();
      for (std::uint64_t id = ended + 1; id <= ended + 6; ++id)
        ASSERT_TRUE(fleet->engine(static_cast<int>(id % 2)).submit({request(id, 30, 6)}).ok());
      sink_.wait_for_ends(ended + 6);
      for (int engine = 0; engine < 2; ++engine) {
        const cluster::ExpertWork work = fleet->engine(engine).expert_work();
        for (std::size_t cell = 0; cell < work.rows.size(); ++cell)
          rows[size == 1 ? static_cast<std::size_t>(engine) : cell % 2] += work.rows[cell];
      }
      ASSERT_TRUE(trace.finish().ok());
    }
    const auto json = parse_json(text.str());
    ASSERT_TRUE(json.ok()) << json.error().message;
    const auto services = services_in(*json);
    ASSERT_EQ(services.size(), 2U);
    for (int engine = 0; engine < 2; ++engine) {
      const auto& service = services.at("experts of engine " + std::to_string(engine));
      EXPECT_TRUE(service.tracks.contains("runs") && service.tracks.contains("queues"));
      EXPECT_EQ(service.tracks.contains("holds"), size > 1);
      EXPECT_GT(service.rows_of_runs, 0);
      EXPECT_EQ(service.rows_of_runs, service.rows_of_queues);
      EXPECT_EQ(service.rows_of_runs, static_cast<double>(rows[static_cast<std::size_t>(engine)]));
      EXPECT_EQ(static_cast<std::size_t>(service.queues), service.queued_since.size());
    }
  }
}

TEST_F(EngineFleetTest, ADenseModelHasNoServicesInATrace) {
  model_ = tests::make_and_load(tests::tiny_options(synthetic::Family::kQwen3),
                                tensor::DType::kBF16, pool_);
  std::stringstream text;
  Trace trace(text);
  EngineFleetOptions fleet = options(1, 1);
  fleet.engine.trace = &trace;
  serve(*start(fleet), 2);
  ASSERT_TRUE(trace.finish().ok());
  const auto json = parse_json(text.str());
  ASSERT_TRUE(json.ok()) << json.error().message;
  EXPECT_TRUE(services_in(*json).empty());
}

TEST_F(EngineFleetTest, ARoutingRecordHasEveryRowOnce) {
  const TemporaryFolder folder;
  const std::string path = folder.path("record");
  const auto& config = model_->config();
  constexpr int kRequests = 5;
  {
    auto recorder = RoutingRecorder::open(path, {.model_hash = 7,
                                                 .layers = config.num_layers(),
                                                 .experts = config.experts,
                                                 .k = config.experts_per_token});
    ASSERT_TRUE(recorder.ok()) << recorder.error().message;
    EngineFleetOptions fleet = options(2, 2);
    fleet.engine.routing = recorder->get();
    fleet.engine.scheduler.prefix_caching = false;
    serve(*start(fleet), kRequests);
  }
  std::ifstream file(path, std::ios::binary);
  auto reader = sched::RoutingRecordReader::open(file);
  ASSERT_TRUE(reader.ok()) << reader.error().message;
  EXPECT_EQ(reader->header().model_hash, 7U);
  std::set<std::tuple<RequestId, std::uint32_t, LayerIndex>> seen;
  sched::RoutingRow row;
  while (true) {
    const auto more = reader->next(row);
    ASSERT_TRUE(more.ok()) << more.error().message;
    if (!*more) break;
    EXPECT_TRUE(seen.emplace(row.request, row.position, row.layer).second);
    EXPECT_EQ(row.source.value(), static_cast<int>(row.request.value() % 2));
  }
  std::size_t expected = 0;
  for (int id = 1; id <= kRequests; ++id)  // the last token is not computed
    expected += static_cast<std::size_t>((5 + 7 * id + 5) * config.moe_layers());
  EXPECT_EQ(seen.size(), expected);
  EXPECT_FALSE(RoutingRecorder::open("/no/such/folder/record", {}).ok());
}

}  // namespace
}  // namespace gimbal::engine
