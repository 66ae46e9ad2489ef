#include "sched/replay.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sched/record_walk.h"

namespace gimbal::sched {
namespace {

// Runs nothing: remembers what it was told, so that recorded answers can be checked against it.
class SilentExecutor final : public BatchExecutor {
 public:
  explicit SilentExecutor(int layers) : layers_(layers) {}

  void start(const StepPlan& plan) override {
    batch_ = plan.batch;
    members_.clear();
    for (const SequenceStep& step : plan.sequences)
      members_.push_back({step.request, step.samples});
    state_ = State::kStanding;
    cursor_ = Cursor{};
  }
  void advance(BatchId /*batch*/, Cursor /*until*/) override { state_ = State::kRunning; }
  void yield(BatchId /*batch*/) override {}
  void suspend(BatchId /*batch*/) override {}
  void resume(BatchId /*batch*/) override {}
  void merge(BatchId /*into*/, BatchId /*from*/) override {}
  void split(BatchId /*from*/, std::span<const RequestId> /*sequences*/, BatchId /*to*/) override {}
  void drop(BatchId /*batch*/, std::span<const RequestId> sequences) override {
    std::erase_if(members_, [&](const Member& member) {
      return std::find(sequences.begin(), sequences.end(), member.request) != sequences.end();
    });
  }
  void finish(BatchId /*batch*/) override { state_ = State::kFinishing; }
  [[nodiscard]] int layers() const override { return layers_; }

  // Whether an executor with these orders could have answered that. Remembers that it did.
  bool accept(const StageReached& event) {
    const bool possible = state_ == State::kRunning && event.batch == batch_ &&
                          cursor_ < event.cursor && event.cursor <= Cursor::end(layers_);
    cursor_ = event.cursor;
    if (possible) state_ = State::kStanding;
    return possible;
  }
  bool accept(const StepFinished& event) {
    const auto answers = [](const Member& member, const SequenceResult& result) {
      return member.request == result.request && member.samples == result.token.has_value();
    };
    const bool possible = state_ == State::kFinishing && event.batch == batch_ &&
                          std::equal(members_.begin(), members_.end(), event.sequences.begin(),
                                     event.sequences.end(), answers);
    if (possible) state_ = State::kNone;
    return possible;
  }
  bool accept(const StepFailed& event) {
    const bool possible = state_ != State::kNone && event.batch == batch_ && !members_.empty();
    if (possible) state_ = State::kNone;
    return possible;
  }

 private:
  enum class State : std::uint8_t { kNone, kStanding, kRunning, kFinishing };
  struct Member {
    RequestId request;
    bool samples = false;
  };

  int layers_;
  State state_ = State::kNone;
  BatchId batch_;
  std::vector<Member> members_;
  Cursor cursor_;
};

class SilentEngine final : public ReplayedEngine {
 public:
  explicit SilentEngine(int layers) : executor_(layers) {}

  BatchExecutor& executor() override { return executor_; }
  void come_to(TimePoint /*now*/) override { answers_ = 0; }
  bool answer(const StageReached& event) override { return accept(event); }
  bool answer(const StepFinished& event) override { return accept(event); }
  bool answer(const StepFailed& event) override { return accept(event); }

 private:
  // An executor answers orders of earlier calls, so at most once in each.
  template <class Answer>
  bool accept(const Answer& answer) {
    return ++answers_ == 1 && executor_.accept(answer);
  }

  SilentExecutor executor_;
  int answers_ = 0;
};

}  // namespace

Result<ReplayReport> replay(std::istream& record) {
  return walk_record(record, [](const RecordHeader& header) {
    return std::unique_ptr<ReplayedEngine>(new SilentEngine(header.layers));
  });
}

}  // namespace gimbal::sched
