#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/hash.h"
#include "base/random.h"
#include "engine/expert_group.h"
#include "engine/group_port.h"
#include "engine/model_executor.h"
#include "kernels/isa.h"

namespace gimbal::parity {

constexpr int kPageTokens = 16;
constexpr std::int64_t kBatchRows = 96;
constexpr int kNewTokens = 6;

// Runs one waiting expert queue at a time, so that a batch can stop between experts.
class OneQueueAtATime final : public policy::ExpertQueuePolicy {
 public:
  void choose(const policy::ExpertQueueView& view,
              policy::ExpertQueueDecision& decision) const override {
    decision = {};
    if (!view.queues.empty()) decision.run.push_back(static_cast<int>(view.queues.size()) - 1);
  }
};

struct TestSequence {
  RequestId id;
  std::vector<TokenId> tokens;
  std::int32_t prompt_tokens = 0;
  std::int32_t computed = 0;
  std::vector<PageId> pages;
  sched::SamplingParams sampling;
  bool in_batch = false;

  [[nodiscard]] bool done() const {
    return static_cast<int>(tokens.size()) - prompt_tokens >= kNewTokens;
  }
};

// What a request got: the hash of its logits at each position, and its tokens.
struct Trace {
  std::map<std::pair<RequestId, std::int32_t>, std::uint64_t> logits;
  std::map<RequestId, std::vector<TokenId>> tokens;
  bool operator==(const Trace&) const = default;
};

struct LiveBatch {
  BatchId id;
  std::vector<RequestId> members;
  std::vector<std::int32_t> rows;
  Cursor cursor;
  bool inside_experts = false;
  bool suspended = false;
  bool in_gang = false;  // others may wait for what it posts
};

// A step that ranks run together. Numbers rise; all ranks know the same steps.
struct GangStep {
  std::uint64_t number = 0;
  sched::RankSet members = 0;
  Duration hold_limit{};  // 0: none
};

// Where a scheduler's executor is a rank of a group; it then has its share of the sequences.
struct TestRank {
  engine::ExpertGroup& group;
  engine::GroupPort& port;
  std::span<const GangStep> gang = {};  // it takes part in those of which it is a member
  // It stops for good when it has waited for others so often, rows and steps being as they are; and
  // as soon as it waits when others have retired it.
  std::optional<int> dies_at_wait;
};

// Drives an executor with a schedule drawn from a seed; seed 0 is no schedule at all: every
// sequence alone, prompts whole, nothing interrupted.
class RandomScheduler {
 public:
  RandomScheduler(const model::Model& model, const kernels::KernelContext& context,
                  std::uint64_t seed, const TestRank* rank = nullptr)
      : rng_(seed),
        plain_(seed == 0),
        rank_(rank),
        kv_(model.config(), model.dtype(), 64),
        executor_(model, kv_, context, clock_, {.max_batch_rows = kBatchRows}, place_of(rank)) {
    for (int layer = 0; layer < model.config().num_layers(); ++layer)
      moe_.push_back(model.config().is_moe(LayerIndex{layer}));
    if (rank == nullptr && !plain_ && rng_.below(2) == 0) {
      executor_.set_expert_policy(std::make_unique<OneQueueAtATime>());
    }
    executor_.set_logits_observer(
        [this](RequestId id, std::int32_t position, std::span<const float> logits) {
          const std::string_view bytes(reinterpret_cast<const char*>(logits.data()),
                                       logits.size_bytes());
          trace_.logits[{id, position}] = hash_bytes(bytes);
        });
    make_sequences(model.config().vocab_size);
  }

  Trace run() {
    try {
      int steps = 0;
      while (!batches_.empty() ||
             std::any_of(sequences_.begin(), sequences_.end(),
                         [this](const auto& each) { return works_on(each); })) {
        EXPECT_LT(++steps, 100000);
        act();
      }
      while (const GangStep* step = next_gang_step())
        rank_->port.leave(step->number, step->members);
    } catch (const Died&) {
      died_ = true;
    }
    for (const TestSequence& sequence : sequences_) {
      if (mine(sequence)) trace_.tokens[sequence.id] = sequence.tokens;
    }
    return trace_;
  }

  [[nodiscard]] int interruptions() const { return interruptions_; }
  // Whether it stopped in mid-step.
  [[nodiscard]] bool died() const { return died_; }
  // Batches that were of their gang step to the end.
  [[nodiscard]] int gang_batches() const { return gang_batches_; }

 private:
  struct Died {};

  const engine::GroupPlace* place_of(const TestRank* rank) {
    if (rank == nullptr) return nullptr;
    return &place_.emplace(engine::GroupPlace{
        .rows = rank->group.rows(),
        .first_region = rank->port.rank().value() * rank->group.options().executor.max_batches,
        .experts = rank->port});
  }

  [[nodiscard]] bool mine(const TestSequence& sequence) const {
    if (rank_ == nullptr) return true;
    return static_cast<int>(sequence.id.value()) % rank_->group.ranks() ==
           rank_->port.rank().value();
  }
  [[nodiscard]] bool works_on(const TestSequence& sequence) const {
    return mine(sequence) && !sequence.done();
  }

  // Runs the executor until it does something; what others owe it is waited for.
  void run(std::vector<sched::Event>& events) {
    while (true) {
      const std::uint32_t rung = rank_ == nullptr ? 0 : bell().rings();
      const engine::Progress progress = executor_.run(events);
      if (progress == engine::Progress::kWorked) return;
      ASSERT_EQ(progress, engine::Progress::kWaiting);
      ASSERT_NE(rank_, nullptr);
      if (++waits_ == rank_->dies_at_wait || !rank_->group.alive(rank_->port.rank())) throw Died();
      bell().wait(rung, rank_->port.time_to_next_due());
    }
  }
  [[nodiscard]] comm::Doorbell& bell() {
    return rank_->group.life().bell(rank_->port.rank().value());
  }

  void make_sequences(int vocab) {
    // The same sequences whatever the seed.
    Rng rng(77);
    int page = 0;
    for (const int prompt : {1, 5, 16, 17, 40, 63}) {
      TestSequence& sequence = sequences_.emplace_back();
      sequence.id = RequestId{sequences_.size()};
      sequence.prompt_tokens = prompt;
      for (int i = 0; i < prompt; ++i) {
        sequence.tokens.push_back(static_cast<TokenId>(rng.below(vocab)));
      }
      sequence.tokens.reserve(prompt + kNewTokens);
      for (int i = 0; i * kPageTokens < prompt + kNewTokens; ++i) {
        sequence.pages.emplace_back(page++);
      }
      sequence.sampling.temperature = prompt % 2 == 0 ? 1.0F : 0.0F;
      sequence.sampling.seed = static_cast<std::uint64_t>(prompt);
    }
  }

  TestSequence& sequence_of(RequestId id) { return sequences_[id.value() - 1]; }

  void act() {
    const std::uint64_t dice = plain_ ? 0 : rng_.below(10);
    if (batches_.empty() || (dice < 2 && batches_.size() < 3 && !plain_)) {
      start();
    } else if (dice < 6) {
      advance(pick());
    } else if (dice == 6) {
      merge();
    } else if (dice == 7) {
      split(pick());
    } else if (dice == 8 && !pick().suspended) {
      LiveBatch& batch = pick();
      if (batch.suspended) return;
      executor_.suspend(batch.id);
      batch.suspended = true;
      batch.in_gang = false;
    } else {
      LiveBatch& batch = pick();
      if (batch.suspended) executor_.resume(batch.id);
      batch.suspended = false;
    }
  }

  // The first gang step that is left for this rank, if it is free for one; taken.
  const GangStep* next_gang_step() {
    if (rank_ == nullptr || std::any_of(batches_.begin(), batches_.end(),
                                        [](const auto& each) { return each.in_gang; })) {
      return nullptr;
    }
    while (next_gang_step_ < rank_->gang.size()) {
      const GangStep& step = rank_->gang[next_gang_step_++];
      if ((step.members & sched::rank_bit(rank_->port.rank())) != 0) return &step;
    }
    return nullptr;
  }

  // Takes part without a row, to the end or to any layer.
  void attend(const GangStep& step) {
    for (int layer = 0; layer < executor_.layers(); ++layer) {
      if (rng_.below(6) == 0) {
        rank_->port.leave(step.number, step.members);
        return;
      }
      if (!moe_[static_cast<std::size_t>(layer)]) continue;
      rank_->port.post({.source = rank_->port.rank(),
                        .layer = LayerIndex{layer},
                        .step = step.number,
                        .members = step.members,
                        .map_version = rank_->port.map_version(),
                        .rows = {},
                        .experts = {}});
    }
  }

  LiveBatch& pick() { return batches_[rng_.below(batches_.size())]; }

  void start() {
    sched::StepPlan plan{.batch = BatchId{++last_batch_}, .sequences = {}};
    LiveBatch batch{.id = plan.batch};
    const GangStep* const gang = rng_.below(4) == 0 ? nullptr : next_gang_step();
    if (gang != nullptr) rank_->port.limit_holds(gang->number, gang->hold_limit);
    const bool attends = gang != nullptr && rng_.below(4) == 0;
    std::int64_t room = kBatchRows / 3;
    for (TestSequence& sequence : sequences_) {
      if (attends) break;
      if (sequence.in_batch || !works_on(sequence) || (!plain_ && rng_.below(3) == 0)) continue;
      if (plain_ && !batch.members.empty()) break;
      const auto left = static_cast<std::int32_t>(sequence.tokens.size()) - sequence.computed;
      auto rows = left;
      if (!plain_) {
        rows = std::min<std::int32_t>(1 + static_cast<std::int32_t>(rng_.below(left)),
                                      static_cast<std::int32_t>(room));
      }
      if (rows == 0) break;
      room -= rows;
      sequence.in_batch = true;
      plan.sequences.push_back({.request = sequence.id,
                                .request_class = rng_.below(2) == 0
                                                     ? sched::RequestClass::kBestEffort
                                                     : sched::RequestClass::kLatencySensitive,
                                .tokens = sequence.tokens,
                                .position = sequence.computed,
                                .rows = rows,
                                .pages = sequence.pages,
                                .prompt_tokens = sequence.prompt_tokens,
                                .samples = rows == left,
                                .sampling = &sequence.sampling});
      batch.members.push_back(sequence.id);
      batch.rows.push_back(rows);
    }
    if (batch.members.empty()) {
      if (gang != nullptr) attend(*gang);
      return;
    }
    if (gang != nullptr) {
      plan.gang_step = gang->number;
      plan.gang_members = gang->members;
      batch.in_gang = true;
    }
    executor_.start(plan);
    batches_.push_back(batch);
  }

  void advance(LiveBatch& batch) {
    if (batch.suspended) return;
    const Cursor end = Cursor::end(executor_.layers());
    if (batch.cursor == end) {
      finish(batch);
      return;
    }
    const int left = end.index() - batch.cursor.index();
    const Cursor until =
        plain_ ? end
               : Cursor::from_index(batch.cursor.index() + 1 + static_cast<int>(rng_.below(left)));
    executor_.advance(batch.id, until);
    std::vector<sched::Event> events;
    while (events.empty()) {
      if (!plain_ && rng_.below(4) == 0) executor_.yield(batch.id);
      run(events);
    }
    const auto& reached = std::get<sched::StageReached>(events.front());
    if (reached.cursor != end) ++interruptions_;
    batch.cursor = reached.cursor;
    batch.inside_experts = executor_.inside_experts(batch.id);
  }

  void finish(LiveBatch& batch) {
    executor_.finish(batch.id);
    std::vector<sched::Event> events;
    run(events);
    const auto& finished = std::get<sched::StepFinished>(events.front());
    ASSERT_EQ(finished.sequences.size(), batch.members.size());
    for (const sched::SequenceResult& result : finished.sequences) {
      TestSequence& sequence = sequence_of(result.request);
      const auto member = std::find(batch.members.begin(), batch.members.end(), result.request);
      ASSERT_NE(member, batch.members.end());
      sequence.computed += batch.rows[member - batch.members.begin()];
      sequence.in_batch = false;
      if (result.token) sequence.tokens.push_back(*result.token);
    }
    if (batch.in_gang) ++gang_batches_;
    const BatchId id = batch.id;
    std::erase_if(batches_, [id](const LiveBatch& each) { return each.id == id; });
  }

  void merge() {
    if (batches_.size() < 2) return;
    LiveBatch& into = batches_[0];
    LiveBatch& from = batches_[1];
    if (into.cursor != from.cursor || into.inside_experts || from.inside_experts) return;
    executor_.merge(into.id, from.id);
    into.members.insert(into.members.end(), from.members.begin(), from.members.end());
    into.rows.insert(into.rows.end(), from.rows.begin(), from.rows.end());
    batches_.erase(batches_.begin() + 1);
    ++interruptions_;
  }

  void split(LiveBatch& batch) {
    if (batch.members.size() < 2 || batches_.size() >= 3) return;
    LiveBatch to{.id = BatchId{++last_batch_},
                 .cursor = batch.cursor,
                 .inside_experts = batch.inside_experts};
    LiveBatch rest = batch;
    rest.members.clear();
    rest.rows.clear();
    for (std::size_t i = 0; i < batch.members.size(); ++i) {
      const bool moves = i == 0 || (i + 1 < batch.members.size() && rng_.below(2) == 0);
      (moves ? to : rest).members.push_back(batch.members[i]);
      (moves ? to : rest).rows.push_back(batch.rows[i]);
    }
    executor_.split(batch.id, to.members, to.id);
    batch = rest;
    batches_.push_back(to);
    ++interruptions_;
  }

  Rng rng_;
  bool plain_;
  const TestRank* rank_;
  SteadyClock clock_;
  model::KvStorage kv_;
  std::optional<engine::GroupPlace> place_;
  engine::ModelExecutor executor_;
  std::vector<TestSequence> sequences_;
  std::vector<LiveBatch> batches_;
  std::vector<bool> moe_;  // by layer
  std::size_t next_gang_step_ = 0;
  int gang_batches_ = 0;
  int waits_ = 0;
  bool died_ = false;
  std::uint32_t last_batch_ = 0;
  int interruptions_ = 0;
  Trace trace_;
};

}  // namespace gimbal::parity
