#include "sim/record_replay.h"

#include <deque>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "cost/routing_model.h"
#include "sched/record_walk.h"
#include "sim/cost_model_executor.h"
#include "sim/event_queue.h"
#include "sim/pass_costs.h"
#include "sim/pass_runner.h"

namespace gimbal::sim {
namespace {

// Leases end when it is told so.
class RecordedRunner final : public PassRunner {
 public:
  void expect(std::uint64_t /*gang_step*/, sched::RankSet /*members*/) override {}
  void leave(std::uint64_t /*gang_step*/, Rank /*rank*/) override {}
  void dead(Rank /*rank*/) override {}
  void run(PassMember& member) override {
    member.running = true;
    active_ = &member;
  }
  void yield(PassMember& /*member*/) override {}
  void remove(PassMember& member) override {
    if (active_ == &member) active_ = nullptr;
    member.running = false;
  }
  void hang(PassMember& /*member*/) override {}
  void changed(PassMember& /*member*/) override {}
  void costs_changed() override {}
  [[nodiscard]] const std::vector<Load>& loads() const override { return none_; }

  // The batch that runs stands at the cursor. False: none runs, or not from before there until
  // there or beyond.
  bool reach(Cursor cursor) {
    if (active_ == nullptr || cursor <= active_->cursor || cursor > active_->until) return false;
    PassMember& member = *std::exchange(active_, nullptr);
    member.cursor = cursor;
    member.running = false;
    member.listener->reached(member);
    return true;
  }

 private:
  PassMember* active_ = nullptr;
  std::vector<Load> none_;
};

// A model whose stages take no time of their own.
cost::CostModel timeless_model(int layers) {
  cost::ModelShape shape;
  shape.name = "recorded";
  shape.layer_is_moe.assign(static_cast<std::size_t>(layers), false);
  shape.heads = shape.kv_heads = 1;
  cost::HardwareProfile profile;
  const cost::Roofline any{.stream_gb_per_s = 1, .compute_tflop_per_s = 1};
  profile.attention.projections = profile.experts.products = profile.step.head = any;
  profile.attention.kv_gb_per_s = profile.attention.prefill_tflop_per_s = 1;
  return cost::CostModel::make(shape, profile).value();
}

cost::ExpertLoadTable no_experts(int layers) {
  const std::vector<int> none(static_cast<std::size_t>(layers), 0);
  const auto routing =
      cost::RoutingModel::uniform({.experts_of_layer = none, .experts_per_token = 1}).value();
  return {routing, policy::ExpertMap::linear({.experts_of_layer = none, .ranks = 1})};
}

class Engine final : public sched::ReplayedEngine, private ExecutorOwner, private EventTarget {
 public:
  explicit Engine(const sched::RecordHeader& header)
      : model_(timeless_model(header.layers)),
        loads_(no_experts(header.layers)),
        costs_(model_, loads_, cost::Tier::kOwnRank),
        executor_({.queue = queue_, .runner = runner_, .costs = costs_, .owner = *this}, Rank{0},
                  header.options.vocab_size) {}

  sched::BatchExecutor& executor() override { return executor_; }

  void come_to(TimePoint now) override {
    queue_.at(now, *this, 0);
    while (queue_.run_one()) {
    }
  }

  bool answer(const sched::StageReached& event) override {
    if (!answers_.empty() || !runner_.reach(event.cursor) || answers_.empty()) return false;
    const auto mine = std::get<sched::StageReached>(answers_.front());
    answers_.pop_front();
    return mine.batch == event.batch && mine.cursor == event.cursor;
  }
  // The executor has answered: with its own tokens and times, which the recorded ones replace.
  bool answer(const sched::StepFinished& event) override {
    if (answers_.empty()) return false;
    const auto* mine = std::get_if<sched::StepFinished>(&answers_.front());
    if (mine == nullptr || mine->batch != event.batch ||
        mine->sequences.size() != event.sequences.size()) {
      return false;
    }
    for (std::size_t i = 0; i < event.sequences.size(); ++i) {
      if (mine->sequences[i].request != event.sequences[i].request ||
          mine->sequences[i].token.has_value() != event.sequences[i].token.has_value()) {
        return false;
      }
    }
    answers_.pop_front();
    return true;
  }
  bool answer(const sched::StepFailed& event) override {
    const bool answered = !answers_.empty();  // it failed while tokens were chosen
    answers_.clear();
    return executor_.forget(event.batch) || answered;
  }

 private:
  [[nodiscard]] int topic_of(RequestId /*request*/) const override { return 0; }
  void on_executor_event(sched::Event event) override { answers_.push_back(std::move(event)); }
  void on_event(std::uint64_t /*what*/) override {}  // time has come there

  EventQueue queue_;
  cost::CostModel model_;
  cost::ExpertLoadTable loads_;
  PassCosts costs_;
  RecordedRunner runner_;
  CostModelExecutor executor_;
  std::deque<sched::Event> answers_;  // of the executor, that the record has not come to
};

}  // namespace

Result<sched::ReplayReport> replay_record(std::istream& record) {
  return sched::walk_record(record, [](const sched::RecordHeader& header) {
    return std::unique_ptr<sched::ReplayedEngine>(new Engine(header));
  });
}

}  // namespace gimbal::sim
