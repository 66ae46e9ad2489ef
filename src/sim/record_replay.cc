#include "sim/record_replay.h"

#include <fmt/format.h>

#include <deque>
#include <istream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "cost/routing_model.h"
#include "sched/event_recorder.h"
#include "sched/record_json.h"
#include "sched/step_loop.h"
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

class Replay final : private ExecutorOwner, private EventTarget {
 public:
  static Result<std::unique_ptr<Replay>> make(const sched::RecordHeader& header) {
    std::unique_ptr<Replay> replay(new Replay(header));
    GIMBAL_ASSIGN_OR_RETURN(replay->loop_, sched::StepLoop::make(header.options, replay->executor_,
                                                                 &replay->recorder_));
    replay->written_.str({});  // the header
    return replay;
  }

  // A line with events: brings virtual time there and carries them out.
  Result<void> call(const Json& line) {
    if (!decided_.empty()) return invalid_argument("a decision is missing: " + decided_.front());
    GIMBAL_ASSIGN_OR_RETURN(sched::RecordedCall call, sched::call_from_json(line));
    if (call.now < queue_.now()) return invalid_argument("time goes backwards");
    queue_.at(call.now, *this, 0);
    while (queue_.run_one()) {
    }
    for (sched::Event& event : call.events) {
      if (!std::visit([this](auto& what) { return this->possible(what); }, event)) {
        return invalid_argument("an event that the simulated engine would not have had");
      }
    }
    written_.str({});
    if (loop_->on(queue_.now(), call.events).intent) asking_ = true;
    std::istringstream lines(written_.str());
    std::string text;
    std::getline(lines, text);  // the events again
    while (std::getline(lines, text))
      decided_.push_back(text);
    ++report_.calls;
    return {};
  }

  // Any other line: must be what was decided.
  Result<void> decision(const std::string& text) {
    if (decided_.empty()) return invalid_argument("a decision that is not taken now");
    if (decided_.front() != text) {
      return invalid_argument("the decision differs, now it is " + decided_.front());
    }
    decided_.pop_front();
    report_.plans += text.find("\"plan\"") != std::string::npos ? 1 : 0;
    return {};
  }

  [[nodiscard]] const sched::ReplayReport& report() const { return report_; }

 private:
  explicit Replay(const sched::RecordHeader& header)
      : model_(timeless_model(header.layers)),
        loads_(no_experts(header.layers)),
        costs_(model_, loads_, cost::Tier::kOwnRank),
        executor_({.queue = queue_, .runner = runner_, .costs = costs_, .owner = *this}, Rank{0},
                  header.options.vocab_size),
        recorder_(written_) {}

  [[nodiscard]] int topic_of(RequestId /*request*/) const override { return 0; }
  void on_executor_event(sched::Event event) override { answers_.push_back(std::move(event)); }
  void on_event(std::uint64_t /*what*/) override {}  // time has come there

  bool possible(const sched::SubmitGroup& event) {
    for (const sched::Request& request : event.requests) {
      if (!requests_.insert(request.id).second) return false;
    }
    return true;
  }
  static bool possible(const sched::CancelRequest& /*event*/) { return true; }
  static bool possible(const sched::SetDraining& /*event*/) { return true; }
  bool possible(const sched::StartStep& /*event*/) { return std::exchange(asking_, false); }
  bool possible(const sched::StageReached& event) {
    if (!answers_.empty() || !runner_.reach(event.cursor) || answers_.empty()) return false;
    const auto mine = std::get<sched::StageReached>(answers_.front());
    answers_.pop_front();
    return mine.batch == event.batch && mine.cursor == event.cursor;
  }
  // The executor has answered: with its own tokens and times, which the recorded ones replace.
  bool possible(const sched::StepFinished& event) {
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
  bool possible(const sched::StepFailed& event) {
    const bool answered = !answers_.empty();  // it failed while tokens were chosen
    answers_.clear();
    return executor_.forget(event.batch) || answered;
  }

  EventQueue queue_;
  cost::CostModel model_;
  cost::ExpertLoadTable loads_;
  PassCosts costs_;
  RecordedRunner runner_;
  CostModelExecutor executor_;
  std::ostringstream written_;
  sched::EventRecorder recorder_;
  std::unique_ptr<sched::StepLoop> loop_;
  std::deque<sched::Event> answers_;  // of the executor, that the record has not come to
  bool asking_ = false;
  std::unordered_set<RequestId> requests_;
  std::deque<std::string> decided_;
  sched::ReplayReport report_;
};

}  // namespace

Result<sched::ReplayReport> replay_record(std::istream& record) {
  std::unique_ptr<Replay> replay;
  std::string text;
  for (int number = 1; std::getline(record, text); ++number) {
    const auto failed = [&](const Error& error) {
      return invalid_argument(fmt::format("line {} of the record: {}", number, error.message));
    };
    const auto line = parse_json(text);
    if (!line.ok()) {
      if (record.eof() && replay) break;  // cut off in the middle of its last line
      return failed(line.error());
    }
    if (!replay) {
      const auto header = sched::header_from_json(*line);
      if (!header.ok()) return failed(header.error());
      auto made = Replay::make(*header);
      if (!made.ok()) return failed(made.error());
      replay = std::move(made).value();
      continue;
    }
    const bool events = line->is_object() && line->contains("events");
    const auto done = events ? replay->call(*line) : replay->decision(text);
    if (!done.ok()) return failed(done.error());
  }
  if (!replay) return invalid_argument("the record is empty");
  return replay->report();
}

}  // namespace gimbal::sim
