#include "cluster/decision_json.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace gimbal::cluster {
namespace {

std::optional<double> maybe(Rng& rng, double most) {
  return rng.below(5) == 0 ? std::nullopt : std::optional(most * rng.uniform());
}

policy::EngineView random_engine(Rng& rng) {
  policy::EngineView view;
  view.freshness = static_cast<policy::Freshness>(rng.below(20) == 0 ? 3 : rng.below(3));
  view.age_ms = 2000 * rng.uniform();
  view.room = rng.below(8) > 0;
  view.ledger = {.unseen_requests = static_cast<double>(rng.below(4)),
                 .unseen_prefill_tokens = static_cast<double>(rng.below(4000)),
                 .unseen_best_effort_prefill_tokens = static_cast<double>(rng.below(100)),
                 .unseen_pages = static_cast<double>(rng.below(100)),
                 .requests = static_cast<double>(rng.below(9)),
                 .prefill_tokens = static_cast<double>(rng.below(5000)),
                 .decodes = static_cast<double>(rng.below(9))};
  view.hit_tokens = static_cast<double>(16 * rng.below(30));
  view.cached_pages = static_cast<double>(rng.below(500));
  view.counted_waiting = static_cast<double>(rng.below(5));
  view.counted_running = static_cast<double>(rng.below(5));
  view.pages_total = maybe(rng, 500);
  view.pages_referenced = maybe(rng, 500);
  view.running_prefill_tokens = maybe(rng, 5000);
  view.step_prefill_tokens = static_cast<double>(rng.below(2000));
  view.waiting_prefill_tokens = maybe(rng, 9000);
  view.waiting_best_effort_prefill_tokens = maybe(rng, 100);
  view.waiting_requests = maybe(rng, 50);
  view.running_requests = maybe(rng, 50);
  view.decodes = maybe(rng, 50);
  view.decode_context = maybe(rng, 50'000);
  view.residual_ms = maybe(rng, 50);
  view.expert_pressure = maybe(rng, 2);
  view.output_tokens = maybe(rng, 500);
  view.pages_freed_per_ms = maybe(rng, 1);
  view.pages_evicted_per_ms = maybe(rng, 1);
  view.prefill_tokens_per_ms = maybe(rng, 10);
  view.recompute_ms = maybe(rng, 100);
  view.local_share = maybe(rng, 1);
  if (rng.below(3) > 0) {
    view.costs = policy::StepCosts{.fitted = {.attention = {rng.uniform(), 0.1 * rng.uniform(), 0.1,
                                                            1e-5, 1e-6 * (rng.uniform() - 0.5)},
                                              .service = {rng.uniform(), 0.01, 0.001}},
                                   .experts = {.experts = 512, .choices_per_row = 32},
                                   .expert_ratio = 0.5 + rng.uniform() / 2};
  }
  view.budget = {.drain_steps = static_cast<double>(rng.below(10)),
                 .floor = static_cast<double>(rng.below(100)),
                 .ceiling = 1 + static_cast<double>(rng.below(2000))};
  return view;
}

DecisionRecord random_record(Rng& rng) {
  DecisionRecord record{.number = rng(), .time = TimePoint{Duration{rng.between(0, 1LL << 60)}}};
  const auto names = policy::dispatch_names();
  record.rule = std::string(names[rng.below(names.size())]);
  record.user = rng();
  for (std::uint64_t i = 0; i <= rng.below(3); ++i)
    record.requests.push_back(RequestId{rng()});
  record.options.lambda = rng.uniform();
  record.options.omega = rng.uniform();
  record.options.tie_ms = 10 * rng.uniform();
  record.options.exchange_ms_per_token = rng.uniform();
  record.options.shortlist = static_cast<int>(1 + rng.below(9));
  record.options.running_load = static_cast<policy::RunningLoad>(rng.below(2));
  record.request = {.prompt_tokens = static_cast<double>(1 + rng.below(4000)),
                    .prompt_pages = static_cast<double>(1 + rng.below(250)),
                    .choices = static_cast<int>(1 + rng.below(4)),
                    .best_effort = rng.below(2) == 0,
                    .return_probability = rng.uniform(),
                    .mean_return_ms = maybe(rng, 9000)};
  const std::uint64_t count = 1 + rng.below(8);
  const std::uint64_t ranks = 1 + rng.below(3);
  for (std::uint64_t i = 0; i < count; ++i) {
    record.engines.push_back(random_engine(rng));
    if (ranks > 1) record.engines.back().group = static_cast<int>(i / ranks);
  }
  if (rng.below(2) == 0) record.request.last_engine = static_cast<int>(rng.below(count));
  record.turn = rng();
  record.random = rng();
  const auto decision = decide_again(record);
  record.engine = decision.engine;
  record.reason = decision.reason;
  record.scores = decision.scores;
  return record;
}

TEST(DecisionJsonTest, DecisionsAreRecomputedFromTheirRecordsAlone) {
  Rng rng(2);
  for (int round = 0; round < 10'000; ++round) {
    const DecisionRecord record = random_record(rng);
    const std::string text = decision_to_json(record).dump();
    const auto json = parse_json(text);
    ASSERT_TRUE(json.ok());
    const auto read = decision_from_json(*json);
    ASSERT_TRUE(read.ok()) << read.error().message;
    ASSERT_TRUE(decides_the_same(*read)) << text;
    ASSERT_EQ(read->engine, record.engine);
    ASSERT_EQ(read->scores, record.scores);
    ASSERT_EQ(decision_to_json(*read), *json);
  }
}

TEST(DecisionJsonTest, AnotherDecisionIsNoticed) {
  Rng rng(3);
  DecisionRecord record = random_record(rng);
  while (record.engines.size() < 2)
    record = random_record(rng);
  EXPECT_TRUE(decides_the_same(record));
  record.engine = 1 - std::min(record.engine, 1);
  EXPECT_FALSE(decides_the_same(record));
}

struct Change {
  const char* pointer;
  const char* value;
  const char* field;  // that the error names
};

TEST(DecisionJsonTest, HostileRecordsAreErrorsThatNameTheField) {
  Rng rng(4);
  DecisionRecord record = random_record(rng);
  while (record.engines.size() != 3 || !record.engines[0].costs)
    record = random_record(rng);
  const Json good = decision_to_json(record);
  ASSERT_TRUE(decision_from_json(good).ok());
  for (const Change& change : {
           Change{"/engine", "3", "engine"},
           Change{"/engine", "-1", "engine"},
           Change{"/engine", "1e3", "engine"},
           Change{"/rule", "\"none\"", "dispatch"},
           Change{"/rule", "7", "rule"},
           Change{"/reason", "\"because\"", "reason"},
           Change{"/reason", "null", "reason"},
           Change{"/options/lambda", "-1", "lambda"},
           Change{"/options/running_load", "2", "options.running_load"},
           Change{"/engines", "[]", "engines"},
           Change{"/engines", "{}", "engines"},
           Change{"/engines/0/freshness", "4", "engines[0].freshness"},
           Change{"/engines/0/freshness", "-1", "engines[0].freshness"},
           Change{"/engines/1/pages_total", "1e16", "engines[1].pages_total"},
           Change{"/engines/1/pages_total", "\"many\"", "engines[1].pages_total"},
           Change{"/engines/0/costs/fitted/attention", "[1,2]",
                  "engines[0].costs.fitted.attention"},
           Change{"/engines/0/costs/experts/choices_per_row", "-5", "experts"},
           Change{"/engines/2", "[]", "engines[2]"},
           Change{"/scores", "[]", "scores"},
           Change{"/requests/0", "-1", "requests[0]"},
           Change{"/requests/0", "1.5", "requests[0]"},
           Change{"/request/last_engine", "3", "last_engine"},
           Change{"/time", "9000000000000000000", "time"},
           Change{"/turn", "-1", "turn"},
           Change{"/turn", "18446744073709551616", "turn"},
       }) {
    Json bad = good;
    bad[Json::json_pointer(change.pointer)] = Json::parse(change.value);
    const auto read = decision_from_json(bad);
    ASSERT_FALSE(read.ok()) << change.pointer << " " << change.value;
    EXPECT_EQ(read.error().field, change.field) << read.error().message;
  }
  EXPECT_FALSE(decision_from_json(Json::array()).ok());
  EXPECT_FALSE(decision_from_json(Json::object()).ok());
}

TEST(DecisionJsonTest, RecordsOfExtremeNumbersAreDecidedWithoutHarm) {
  Rng rng(6);
  for (int round = 0; round < 2000; ++round) {
    Json json = decision_to_json(random_record(rng));
    for (Json& engine : json["engines"]) {
      for (Json& value : engine) {
        if (!value.is_number_float() || rng.below(3) > 0) continue;
        value = rng.below(2) == 0 ? 1e15 : -1e15;
      }
      if (rng.below(2) == 0) engine["budget"]["drain_steps"] = 1e15;
    }
    const auto read = decision_from_json(json);
    ASSERT_TRUE(read.ok()) << read.error().message;
    const auto decision = decide_again(*read);
    ASSERT_GE(decision.engine, 0);
    ASSERT_LT(decision.engine, static_cast<int>(read->engines.size()));
  }
}

TEST(DecisionJsonTest, SnapshotsComeBack) {
  EngineSnapshot snapshot{.sequence = 9, .steps = 4, .taken = TimePoint{Duration{77}}};
  snapshot.waiting_prefill_tokens = 12;
  snapshot.step_times = policy::StepTimeCoefficients{.attention = {1, 2, 3, 4, -5}};
  snapshot.running_step = policy::StepShape{.prefill = 3, .decodes = 1};
  snapshot.budget = {.drain_steps = 8, .floor = 1, .ceiling = 64};
  const auto read = snapshot_from_json(snapshot_to_json(snapshot));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(snapshot_to_json(*read), snapshot_to_json(snapshot));
  EXPECT_EQ(read->taken, snapshot.taken);
  EXPECT_EQ(read->step_times->attention[4], -5);
  EXPECT_FALSE(read->prefill_tokens_per_second);
  EXPECT_FALSE(snapshot_from_json(Json{{"sequence", -1}}).ok());
  EXPECT_FALSE(snapshot_from_json(Json{{"step_times", 3}}).ok());
}

}  // namespace
}  // namespace gimbal::cluster
