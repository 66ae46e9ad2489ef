// What the server shows of several engines and of their dispatcher.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/fake_inspector.h"
#include "cluster/inspector.h"
#include "server/server_fixture.h"

namespace gimbal::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Two engines, of which the second has failed, and one decision about each request asked for.
class FakeInspector final : public cluster::Inspector {
 public:
  std::vector<cluster::EngineStatus> engine_status() const override {
    std::vector<cluster::EngineStatus> all(2);
    for (int i = 0; i < 2; ++i) {
      auto& status = all[static_cast<std::size_t>(i)];
      status.engine = EngineId{i};
      status.snapshot.generated_tokens = static_cast<std::uint64_t>(10 + i);
      status.view.ledger.requests = 3;
      status.dispatched = 7;
    }
    all[0].expert_pressure = 1.25;
    all[0].expert_work = cluster::ExpertWork(2, 2);
    all[0].expert_work.rows = {1, 20, 300, 4000};
    all[0].expert_work.distinct_experts = {1, 2, 3, 4};
    all[1].healthy = false;
    all[1].failure = "gone";
    all[1].view.freshness = policy::Freshness::kExcluded;
    return all;
  }
  cluster::DispatchStatus dispatch_status() const override {
    cluster::DispatchStatus status{.rule = "gimbal", .late = true, .queued_groups = 2};
    status.reasons[static_cast<std::size_t>(policy::DispatchReason::kTie)] = 5;
    return status;
  }
  std::vector<cluster::DecisionRecord> decisions_of(RequestId request) const override {
    if (request == RequestId{999}) return {};
    cluster::DecisionRecord record{.number = 4, .requests = {request}, .rule = "gimbal"};
    record.engines.resize(2);
    record.scores.resize(2);
    record.engine = 1;
    return {record};
  }
  cluster::ExpertInspector* experts() const override { return &experts_; }
  std::vector<cluster::DecisionRecord> last_decisions(std::size_t most) const override {
    return std::vector<cluster::DecisionRecord>(most);
  }

 private:
  mutable cluster::FakeInspector experts_;
};

// One ordering decision, about request 77.
class FakeOrders final : public cluster::OrderInspector {
 public:
  std::vector<cluster::OrderRecord> orders_of(RequestId request) const override {
    return request == RequestId{77} ? last_orders(1) : std::vector<cluster::OrderRecord>();
  }
  std::vector<cluster::OrderRecord> last_orders(std::size_t /*most*/) const override {
    return {{.number = 1,
             .engine = EngineId{1},
             .rule = {.name = "fcfs"},
             .decision = {.request = RequestId{77}, .job_tokens = 5}}};
  }
  std::vector<cluster::OrderCounts> order_counts() const override {
    return {{.engine = std::nullopt, .reasons = {9}}, {.engine = EngineId{1}, .reasons = {7, 2}}};
  }
};

class ServerDebugTest : public ServerTest {
 protected:
  void start_several() {
    start(test_options(), false);
    server->serve(*engine, codec, {.inspector = &inspector_, .orders = &orders_});
  }
  FakeInspector inspector_;
  FakeOrders orders_;
};

TEST_F(ServerDebugTest, MetricsCountOrderingDecisionsByPlaceAndReason) {
  start_several();
  const std::string text = get("/metrics").body;
  for (const char* line : {R"({engine="dispatcher",model_name="tiny",reason="arrived"} 9)",
                           R"({engine="1",model_name="tiny",reason="arrived"} 7)",
                           R"({engine="1",model_name="tiny",reason="evicted"} 2)",
                           R"({engine="1",model_name="tiny",reason="promoted"} 0)"}) {
    EXPECT_NE(text.find(std::string("gimbal:order_decisions_total") + line), std::string::npos)
        << line;
  }
}

TEST_F(ServerDebugTest, EnginesAreOnePicture) {
  start_several();
  const Json json = json_of(get("/debug/engines"));
  ASSERT_EQ(json.at("engines").size(), 2U);
  EXPECT_EQ(json.at("engines")[0].at("healthy"), true);
  EXPECT_EQ(json.at("engines")[0].at("freshness"), "fresh");
  EXPECT_EQ(json.at("engines")[1].at("failure"), "gone");
  EXPECT_EQ(json.at("engines")[1].at("freshness"), "excluded");
  EXPECT_EQ(json.at("engines")[1].at("snapshot").at("generated_tokens"), 11);
  EXPECT_EQ(json.at("engines")[1].at("view").at("ledger").at("requests"), 3);
  EXPECT_EQ(json.at("engines")[0].at("expert_work"),
            (Json{{"rows", {301, 4020}}, {"distinct_experts", {4, 6}}}));
  EXPECT_TRUE(json.at("engines")[1].at("expert_work").is_null());
  EXPECT_EQ(json.at("dispatch"), (Json{{"rule", "gimbal"},
                                       {"binding", "late"},
                                       {"queued_groups", 2},
                                       {"queued_prefill_tokens", 0.0},
                                       {"decisions", {{"tie", 5}}}}));
}

TEST_F(ServerDebugTest, ExpertsAreShownByLayerForEachEngine) {
  start_several();
  const Json json = json_of(get("/debug/experts"));
  EXPECT_EQ(json.at("groups").size(), 2U);
  ASSERT_EQ(json.at("sources").size(), 1U);  // of the other engine nothing is known
  EXPECT_EQ(json.at("sources")[0], (Json{{"engine", 0},
                                         {"rows", {{1, 20}, {300, 4000}}},
                                         {"distinct_experts", {{1, 2}, {3, 4}}}}));
}

TEST_F(ServerDebugTest, DecisionsAreFoundByAnswerAndByNumber) {
  start_several();
  TestHttpClient client(server->port());
  const RequestId request =
      open_stream(client, "/v1/completions", R"({"prompt":"a","max_tokens":2,"stream":true})");
  engine->say_bytes(request, "xy");
  engine->finish(request, sched::FinishReason::kStop);
  ASSERT_EQ(client.read_head().status, 200);
  const std::string id = event_json(client).at("id");
  const std::string number = std::to_string(request.value());
  for (const std::string& name : {id, number}) {
    const auto response = get("/debug/decisions?other=1&request=" + name);
    ASSERT_EQ(response.status, 200) << response.body;
    const Json json = json_of(response);
    ASSERT_EQ(json.at("decisions").size(), 1U);
    EXPECT_EQ(json.at("decisions")[0].at("requests"), Json::array({request.value()}));
    EXPECT_EQ(json.at("decisions")[0].at("engine"), 1);
  }
  const Json orders = json_of(get("/debug/decisions?request=77")).at("orders");
  ASSERT_EQ(orders.size(), 1U);
  EXPECT_EQ(orders[0].at("engine"), 1);
  EXPECT_EQ(orders[0].at("decision").at("job_tokens"), 5);
  EXPECT_EQ(json_of(get("/debug/decisions")).at("orders"), orders);
  EXPECT_EQ(get("/debug/decisions?request=999").status, 404);
  EXPECT_EQ(get("/debug/decisions?request=cmpl-0").status, 404);
  EXPECT_EQ(get("/debug/decisions?request=").status, 404);
  EXPECT_EQ(json_of(get("/debug/decisions?requests=3")).at("decisions").size(), 100U);
}

TEST_F(ServerDebugTest, MetricsHaveALabelAnEngine) {
  start_several();
  const std::string text = get("/metrics").body;
  EXPECT_THAT(text, HasSubstr(R"(vllm:generation_tokens_total{engine="0",model_name="tiny"} 10)"));
  EXPECT_THAT(text, HasSubstr(R"(vllm:generation_tokens_total{engine="1",model_name="tiny"} 11)"));
  EXPECT_THAT(text, HasSubstr(R"(gimbal:engine_healthy{engine="1",model_name="tiny"} 0)"));
  EXPECT_THAT(text, HasSubstr(R"(gimbal:ledger_requests{engine="0",model_name="tiny"} 3)"));
  EXPECT_THAT(text, HasSubstr(R"(gimbal:expert_pressure{engine="0",model_name="tiny"} 1.25)"));
  EXPECT_THAT(text, Not(HasSubstr(R"(gimbal:expert_pressure{engine="1")")));
  EXPECT_THAT(text, HasSubstr(R"(gimbal:expert_source_rows_total{engine="0",model_name="tiny",)"
                              R"(rank="1"} 4020)"));
  EXPECT_THAT(text, HasSubstr(R"(gimbal:expert_source_distinct_experts_total{engine="0",)"
                              R"(model_name="tiny",rank="0"} 4)"));
  EXPECT_THAT(text, Not(HasSubstr(R"(gimbal:expert_source_rows_total{engine="1")")));
  EXPECT_THAT(text, HasSubstr(R"(gimbal:dispatch_decisions_total{model_name="tiny",reason="tie",)"
                              R"(rule="gimbal"} 5)"));
  // Each family is said once.
  const std::string type = "# TYPE vllm:generation_tokens_total counter";
  EXPECT_EQ(text.find(type), text.rfind(type));
}

TEST_F(ServerDebugTest, OneEngineShowsItself) {
  start();
  const Json json = json_of(get("/debug/engines"));
  ASSERT_EQ(json.at("engines").size(), 1U);
  EXPECT_EQ(json.at("dispatch").at("rule"), "none");
  EXPECT_EQ(json_of(get("/debug/decisions")).at("decisions"), Json::array());
  EXPECT_EQ(get("/debug/decisions?request=1").status, 404);
  EXPECT_THAT(get("/metrics").body, Not(HasSubstr("gimbal:engine_healthy")));
  EXPECT_EQ(json_of(get("/debug/experts")).at("groups"), Json::array());
}

TEST_F(ServerDebugTest, IsClosedToThoseWithoutAKey) {
  ServerOptions options = test_options();
  options.api_keys = {"secret"};
  start(options);
  EXPECT_EQ(get("/debug/engines").status, 401);
  EXPECT_EQ(get("/debug/decisions").status, 401);
}

TEST_F(ServerDebugTest, WaitsForAModel) {
  start(test_options(), false);
  EXPECT_EQ(get("/debug/engines").status, 503);
  EXPECT_EQ(get("/debug/decisions").status, 503);
}

}  // namespace
}  // namespace gimbal::server
