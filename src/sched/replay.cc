#include "sched/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <istream>
#include <optional>
#include <sstream>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/json.h"
#include "sched/event_recorder.h"
#include "sched/record_json.h"
#include "sched/step_loop.h"

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

class Replayer {
 public:
  static Result<Replayer> make(const RecordHeader& header) {
    Replayer replayer(header.layers);
    GIMBAL_ASSIGN_OR_RETURN(
        replayer.parts_->loop,
        StepLoop::make(header.options, replayer.parts_->executor, &replayer.parts_->recorder));
    replayer.parts_->written.str({});  // the header
    return replayer;
  }

  // A line with events: carries them out and keeps what was decided.
  Result<void> call(const Json& line) {
    if (!decided_.empty()) return invalid_argument("a decision is missing: " + decided_.front());
    GIMBAL_ASSIGN_OR_RETURN(RecordedCall call, call_from_json(line));
    if (call.now < now_) return invalid_argument("time goes backwards");
    now_ = call.now;
    int answers = 0;
    for (const Event& event : call.events) {
      if (!std::visit([&](const auto& what) { return possible(what, answers); }, event)) {
        return invalid_argument("an event that could not have happened");
      }
    }
    parts_->written.str({});
    if (parts_->loop->on(now_, call.events).intent) asking_ = true;
    std::istringstream lines(parts_->written.str());
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

  [[nodiscard]] const ReplayReport& report() const { return report_; }

 private:
  // At stable addresses: the loop refers to the others.
  struct Parts {
    explicit Parts(int layers) : executor(layers), recorder(written) {}
    SilentExecutor executor;
    std::ostringstream written;
    EventRecorder recorder;
    std::unique_ptr<StepLoop> loop;
  };

  explicit Replayer(int layers) : parts_(std::make_unique<Parts>(layers)) {}

  bool possible(const SubmitGroup& event, int& /*answers*/) {
    return std::all_of(
        event.requests.begin(), event.requests.end(),
        [this](const Request& request) { return requests_.insert(request.id).second; });
  }
  static bool possible(const CancelRequest& /*event*/, int& /*answers*/) { return true; }
  static bool possible(const SetDraining& /*event*/, int& /*answers*/) { return true; }
  // Answers the last intent, once.
  bool possible(const StartStep& /*event*/, int& /*answers*/) {
    return std::exchange(asking_, false);
  }
  // An executor answers orders of earlier calls, so at most once in each.
  template <class Answer>
  bool possible(const Answer& answer, int& answers) {
    return ++answers == 1 && parts_->executor.accept(answer);
  }

  std::unique_ptr<Parts> parts_;
  TimePoint now_{};
  bool asking_ = false;
  std::unordered_set<RequestId> requests_;
  std::deque<std::string> decided_;
  ReplayReport report_;
};

}  // namespace

Result<ReplayReport> replay(std::istream& record) {
  std::optional<Replayer> replayer;
  std::string text;
  for (int number = 1; std::getline(record, text); ++number) {
    const auto failed = [&](const Error& error) {
      return invalid_argument(fmt::format("line {} of the record: {}", number, error.message));
    };
    const auto line = parse_json(text);
    if (!line.ok()) {
      if (record.eof() && replayer) break;  // cut off in the middle of its last line
      return failed(line.error());
    }
    if (!replayer) {
      auto header = header_from_json(*line);
      if (!header.ok()) return failed(header.error());
      auto made = Replayer::make(*header);
      if (!made.ok()) return failed(made.error());
      replayer.emplace(std::move(made).value());
      continue;
    }
    const bool events = line->is_object() && line->contains("events");
    const auto done = events ? replayer->call(*line) : replayer->decision(text);
    if (!done.ok()) return failed(done.error());
  }
  if (!replayer) return invalid_argument("the record is empty");
  return replayer->report();
}

}  // namespace gimbal::sched
