#include "policy/batch_former.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/random.h"
#include "policy/batch_former_fixture.h"

namespace gimbal::policy {
namespace {

void expect_decisions(std::string_view former_name, const BatchFormerOptions& options,
                      const std::vector<Case>& cases) {
  const auto former = make_batch_former(former_name, options);
  ASSERT_TRUE(former.ok());
  for (const Case& c : cases) {
    const Scene scene = scene_of(c);
    BatchDecision decision;
    (*former)->form(scene.view, decision);
    EXPECT_EQ(text_of(decision), c.expected) << c.rule;
  }
}

TEST(BatchFormerTest, VllmDecodesFirstThenPrefillInChunks) {
  const std::string running = "Ld Bd Lp30";
  const std::string waiting = "L50/4 B20/2";
  expect_decisions(
      "vllm", {},
      {{"chunk of a head", running, waiting, "r0=1 r1=1 r2=30 w0=32", 64},
       {"chunk of the second head", running, waiting, "r0=1 r1=1 r2=30 w0=50 w1=18", 100},
       {"chunk of a running prompt", running, waiting, "r0=1 r1=1 r2=8", 10},
       {"one row", "Lp30", "", "r0=1", 1},
       {"least recently served decodes", "Ld@5 Ld@3 Bd@4 Ld@3", "L9/1", "r1=1 r3=1", 2},
       {"nothing to do", "", "", ""}});
}

TEST(BatchFormerTest, VllmAdmitsInOrderWhatHasPagesAndASlot) {
  expect_decisions(
      "vllm", {},
      {{"a page stays free for each decode", "Ld Ld", "L50/4 L5/1", "r0=1 r1=1", 256, 64, 5},
       {"what fits", "Ld Ld", "L50/4 L5/1", "r0=1 r1=1 w0=50", 256, 64, 6},
       {"the next one too", "Ld Ld", "L50/4 L5/1", "r0=1 r1=1 w0=50 w1=5", 256, 64, 7},
       {"nobody overtakes one that does not fit", "", "L50/4 B5/1", "", 256, 64, 3},
       {"no slot", "Ld Ld", "L5/1 L5/1", "r0=1 r1=1 w0=5", 256, 3},
       {"more running than slots", "Ld Ld Ld", "L5/1", "r0=1 r1=1 r2=1", 256, 2}});
}

TEST(BatchFormerTest, TgiPrefillsArrivalsWholeWhileDecodesWait) {
  expect_decisions(
      "tgi", {.max_batch = 4},
      {{"arrivals of both classes by arrival", "Ld Ld", "L10/1@2 B20/2@1", "w1=20 w0=10"},
       {"the batch is full", "Ld Ld Ld Ld", "L10/1@1", "r0=1 r1=1 r2=1 r3=1"},
       {"up to the batch", "Ld Ld", "L10/1@1 L10/1@2 L10/1@3", "w0=10 w1=10"},
       {"whole or not at all", "Ld", "L10/1@1 L20/1@2 L5/1@3", "w0=10", 24},
       {"a prompt longer than a step", "Ld", "L100/1@1", "w0=24", 24},
       {"and its rest before others", "Ld Lp76", "L3/1@1", "r1=24", 24},
       {"which join when there is room", "Ld Lp76", "L3/1@1", "r1=76 w0=3", 100},
       {"no pages: decoding goes on", "Ld", "L10/9@1", "r0=1", 256, 64, 9},
       {"nobody waits", "Bd Ld", "", "r0=1 r1=1"},
       {"few slots", "Ld Ld", "L10/1@1", "r0=1 r1=1", 256, 2}});
}

// One row a branch of the algorithm, N = 3.
TEST(BatchFormerTest, QllmIsAlgorithmOneBranchByBranch) {
  expect_decisions(
      "qllm", {.max_batch = 3},
      {{"1: N latency-sensitive decodes, whatever waits", "Ld Ld Bd Ld", "L10/1 B20/2",
        "r0=1 r1=1 r3=1"},
       {"1: of more than N those that ran longest ago", "Ld@4 Ld@2 Ld@5 Ld@3", "L10/1",
        "r1=1 r3=1 r0=1"},
       {"2: prefill comes before fewer decodes than N", "Ld Ld Bd", "L10/1 L20/2", "w0=10 w1=20"},
       {"2: filled with best-effort prefill up to N", "Ld Bd", "L10/1 B20/2 B5/1 B6/1",
        "w0=10 w1=20 w2=5"},
       {"2: of N latency-sensitive prompts nothing is filled", "Ld", "L1/1 L2/1 L3/1 L4/1 B5/1",
        "w0=1 w1=2 w2=3"},
       {"3: decodes, filled with best-effort ones up to N", "Bd@2 Ld Bd@1 Bd@3", "B5/1",
        "r1=1 r2=1 r0=1"},
       {"4: best-effort decodes, and no prefill beside them", "Bd@2 Bd@1 Bd@4 Bd@3", "B5/1",
        "r1=1 r0=1 r3=1"},
       {"5: best-effort prefill", "", "B5/1 B6/1 B7/1 B8/1", "w0=5 w1=6 w2=7"},
       {"nothing to do", "", "", ""}});
}

TEST(BatchFormerTest, QllmPrefillsWholePromptsInQueueOrder) {
  expect_decisions("qllm", {.max_batch = 3},
                   {{"whole or not at all", "Ld", "L10/1 L20/2 L5/1", "w0=10", 24},
                    {"a filler too", "Ld", "L10/1 B20/2 B5/1", "w0=10", 24},
                    {"a prompt longer than a step", "Ld", "L100/7 B1/1", "w0=24", 24},
                    {"and its rest before others", "Ld Lp76", "L3/1", "r1=24", 24},
                    {"which join when there is room", "Lp20 Bp9", "L3/1", "r0=20 w0=3 r1=5", 28},
                    {"a best-effort rest fills", "Lp20 Bp9", "", "r0=20 r1=8", 28},
                    {"a best-effort rest waits for decodes", "Bp9 Bd", "", "r1=1"},
                    {"no pages: decodes go on", "Ld Bd", "L10/9 B1/1", "r0=1 r1=1", 256, 64, 10},
                    {"with them", "Ld Bd", "L10/8 B1/1", "w0=10", 256, 64, 10},
                    {"no slot: decodes go on", "Ld Bd", "L10/1", "r0=1 r1=1", 256, 2},
                    {"few rows", "Ld@2 Ld@1 Ld@3", "", "r1=1 r0=1", 2}});
}

constexpr BatchFormerOptions kNoShare{
    .drain_steps = 8, .prefill_floor = 16, .best_effort_filler = 0.25, .best_effort_share = 0};
constexpr BatchFormerOptions kShare{
    .drain_steps = 8, .prefill_floor = 16, .best_effort_filler = 0.25, .best_effort_share = 0.1};

TEST(BatchFormerTest, GimbalSizesPrefillByTheBacklog) {
  expect_decisions("gimbal", kNoShare,
                   {{"no decode: the ceiling", "", "L500/1", "w0=256"},
                    {"backlog / k, rounded up", "Ld", "L500/1", "r0=1 w0=63"},
                    {"the floor", "Ld", "L40/1", "r0=1 w0=16"},
                    {"the ceiling", "Ld", "L10000/1", "r0=1 w0=255"},
                    {"running prompts count", "Ld Lp160", "L160/1", "r0=1 r1=40"},
                    {"a floor above the step", "Ld", "L40/1", "r0=1 w0=7", 8}});
}

TEST(BatchFormerTest, GimbalBoundsBestEffortBesideLatencySensitive) {
  expect_decisions(
      "gimbal", kNoShare,
      {{"what the weight streaming hides", "Ld Bp400", "", "r0=1 r1=16"},
       {"a quarter of the step", "Ld Lp40 Bp400", "", "r0=1 r1=40 r2=14"},
       {"alone it takes all", "Bd Bp400", "", "r0=1 r1=50"},
       {"the four queues in order", "Bd Ld Bp10 Lp10", "", "r1=1 r3=10 r0=1 r2=5"},
       {"heads of both classes", "", "L8/1 B100/1", "w0=8 w1=64"},
       {"least recently served of each class", "Ld@4 Bd@1 Ld@2 Ld@3", "", "r2=1 r3=1", 2},
       {"latency-sensitive work that does not fit bounds nothing", "Bd", "L80/9", "r0=1", 256, 64,
        9}});
}

TEST(BatchFormerTest, GimbalGivesBestEffortItsShare) {
  BatchFormerOptions quarter = kShare;
  quarter.best_effort_share = 0.25;
  expect_decisions(
      "gimbal", quarter,
      {{"of decodes beyond the step", "Ld@4 Ld@3 Ld@2 Ld@1 Bd@5", "", "r4=1 r3=1 r2=1 r1=1", 4}});
  expect_decisions(
      "gimbal", kShare,
      {{"less than a row: later", "Ld Ld Ld Ld Bd", "", "r0=1 r1=1 r2=1 r3=1", 4},
       {"what was owed", "Ld@4 Ld@3 Ld@2 Ld@1 Bd", "", "r4=1 r3=1 r2=1 r1=1", 4, 64, 1000, 0.6},
       {"the share first, filler after", "Ld Bp400", "", "r1=16 r0=1"},
       {"a slot before latency-sensitive heads", "Ld", "L8/4 B8/2", "w1=8 r0=1", 256, 2, 1000, 5},
       {"but not its pages", "Ld", "L8/4 B8/2", "r0=1 w0=8", 256, 64, 6, 5},
       {"unless a whole step is owed", "Ld", "L8/4 B8/2", "w1=8 r0=1", 256, 64, 6, 256},
       {"when heads wait until it fits", "Ld", "L8/4 B8/6", "r0=1", 256, 64, 6, 256}});
}

TEST(BatchFormerTest, GimbalCountsWhatItOwes) {
  const auto former = make_batch_former("gimbal", kShare);
  ASSERT_TRUE(former.ok());
  const auto owed_after = [&](const Case& c) {
    BatchDecision decision;
    (*former)->form(scene_of(c).view, decision);
    return decision.best_effort_owed;
  };
  Case c{"", "Ld Ld Ld Ld Bd", "", "", 4};
  EXPECT_DOUBLE_EQ(owed_after(c), 0.4);
  c.owed = 0.3;
  EXPECT_DOUBLE_EQ(owed_after(c), 0.7);
  c.owed = 0.6;  // it runs: 0.6 + 0.4 − 1
  EXPECT_NEAR(owed_after(c), 0, 1e-12);
  c = {"no more than a step", "Ld Ld Ld Ld", "B5/9", "", 4, 64, 8, 4};
  EXPECT_DOUBLE_EQ(owed_after(c), 4);
  c = {"it runs all it can", "Lp200 Ld Bd", "", "", 256, 64, 8, 100};
  EXPECT_DOUBLE_EQ(owed_after(c), 0);
  c = {"nobody to owe", "Ld", "", "", 4, 64, 8, 3};
  EXPECT_DOUBLE_EQ(owed_after(c), 0);
}

TEST(BatchFormerTest, SaysWhenAHeadLacksNothingButPages) {
  const auto lacks = [](const Case& c) {
    BatchDecision decision;
    make_batch_former("gimbal", {}).value()->form(scene_of(c).view, decision);
    return decision.head_lacks_pages;
  };
  EXPECT_TRUE(lacks({"", "Bd", "L9/9", "", 256, 64, 9}));
  EXPECT_FALSE(lacks({"they are there", "Bd", "L9/9", "", 256, 64, 10}));
  EXPECT_FALSE(lacks({"a slot too", "Bd", "L9/9", "", 256, 1, 9}));
  EXPECT_FALSE(lacks({"rows too", "Lp300", "L9/9", "", 256, 64, 8}));
  EXPECT_FALSE(lacks({"not the first", "Bd", "L9/4 L9/9", "", 256, 64, 9}));
  EXPECT_TRUE(lacks({"", "Bd Bd", "L9/9 B1/1", "", 256, 64, 4, 255}));
  EXPECT_FALSE(lacks({"best-effort heads are overdue", "Bd Bd", "L9/9 B1/1", "", 256, 64, 4, 256}));
  EXPECT_FALSE(lacks({"best-effort", "Ld", "B9/9", "", 256, 64, 9}));
}

struct RandomScene {
  std::vector<RunningSequence> running;
  std::vector<WaitingRequest> waiting;
  BatchView view;
};

RandomScene random_scene(Rng& rng) {
  RandomScene scene;
  for (auto i = rng.below(8); i > 0; --i) {
    scene.running.push_back({rng.below(2) == 0,
                             rng.below(2) == 0 ? 0 : static_cast<int>(rng.between(1, 40)),
                             rng.below(5)});
  }
  for (const bool best_effort : {false, true}) {
    for (auto i = rng.below(4); i > 0; --i) {
      scene.waiting.push_back(
          {best_effort, TimePoint{Duration{static_cast<std::int64_t>(rng.below(9))}},
           static_cast<int>(rng.between(1, 40)), static_cast<int>(rng.between(0, 6))});
    }
  }
  scene.view.running = scene.running;
  scene.view.waiting = scene.waiting;
  scene.view.max_rows = static_cast<int>(rng.between(1, 60));
  scene.view.max_sequences = static_cast<int>(rng.between(1, 10));
  scene.view.free_pages = static_cast<int>(rng.between(0, 20));
  scene.view.backlog = rng.between(0, 2000);
  scene.view.best_effort_owed = rng.uniform() * scene.view.max_rows;
  return scene;
}

// The contract of every former, on one decision.
void check_contract(const RandomScene& scene, const BatchDecision& decision) {
  const BatchView& view = scene.view;
  int rows = 0;
  int sequences = static_cast<int>(view.running.size());
  int pages = view.free_pages;
  for (const RunningSequence& sequence : view.running)
    pages -= sequence.prefill_left == 0 ? 1 : 0;
  std::vector<int> seen_running(view.running.size());
  std::vector<int> seen_waiting(view.waiting.size());
  for (const Grant& grant : decision.grants) {
    rows += grant.rows;
    ASSERT_GE(grant.rows, 1);
    if (!grant.waiting) {
      ASSERT_EQ(seen_running[grant.index]++, 0);
      ASSERT_LE(grant.rows, std::max(1, view.running[grant.index].prefill_left));
      continue;
    }
    ASSERT_EQ(seen_waiting[grant.index]++, 0);
    ASSERT_LE(grant.rows, view.waiting[grant.index].prefill);
    ++sequences;
    pages -= view.waiting[grant.index].pages;
    ASSERT_GE(pages, 0);
  }
  ASSERT_LE(rows, view.max_rows);
  if (sequences > static_cast<int>(view.running.size())) {
    ASSERT_LE(sequences, view.max_sequences);
  }
  for (std::size_t i = 1; i < view.waiting.size(); ++i) {  // no overtaking within a class
    if (view.waiting[i].best_effort == view.waiting[i - 1].best_effort && seen_waiting[i] > 0) {
      ASSERT_GT(seen_waiting[i - 1], 0);
    }
  }
  if (!view.running.empty()) {
    ASSERT_GT(rows, 0);
  }
}

TEST(BatchFormerTest, EveryDecisionKeepsTheContract) {
  for (const std::string_view name : batch_former_names()) {
    BatchFormerOptions options;
    options.max_batch = 5;
    options.target_itl_ms = 12;
    const auto former = make_batch_former(name, options);
    ASSERT_TRUE(former.ok());
    const StepTimeModel times = known_times();
    Rng rng(11);
    BatchDecision decision;
    for (int round = 0; round < 20'000; ++round) {
      RandomScene scene = random_scene(rng);
      scene.view.times = rng.below(2) == 0 ? &times : nullptr;
      scene.view.steps_without_prefill = static_cast<double>(rng.below(12));
      scene.view.decode_context = rng.between(0, 9'000);
      (*former)->form(scene.view, decision);
      check_contract(scene, decision);
      if (HasFatalFailure()) FAIL() << name << " round " << round;
    }
  }
}

TEST(BatchFormerTest, RefusesUnknownNamesAndOptionsOutOfRange) {
  EXPECT_EQ(make_batch_former("orca", {}).error().field, "former");
  EXPECT_EQ(make_batch_former("vllm", {.max_batch = 0}).error().field, "max_batch");
  EXPECT_EQ(make_batch_former("vllm", {.drain_steps = 0}).error().field, "drain_steps");
  EXPECT_EQ(make_batch_former("vllm", {.prefill_floor = 0}).error().field, "prefill_floor");
  EXPECT_EQ(make_batch_former("vllm", {.target_itl_ms = -1}).error().field, "target_itl_ms");
  EXPECT_EQ(make_batch_former("vllm", {.best_effort_filler = 1.5}).error().field,
            "best_effort_filler");
  EXPECT_EQ(make_batch_former("vllm", {.best_effort_share = -0.1}).error().field,
            "best_effort_share");
}

}  // namespace
}  // namespace gimbal::policy
