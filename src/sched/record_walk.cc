#include "sched/record_walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <istream>
#include <memory>
#include <sstream>
#include <string>
#include <unordered_set>
#include <utility>
#include <variant>

#include "base/json.h"
#include "sched/event_recorder.h"
#include "sched/step_loop.h"

namespace gimbal::sched {
namespace {

class Walk {
 public:
  explicit Walk(MakeReplayedEngine make) : make_(make), recorder_(written_) {}

  [[nodiscard]] bool begun() const { return loop_ != nullptr; }
  [[nodiscard]] const ReplayReport& report() const { return report_; }

  Result<void> line(const Json& line, const std::string& text) {
    if (!begun()) return header(line);
    return line.is_object() && line.contains("events") ? call(line) : decision(text);
  }

 private:
  Result<void> header(const Json& line) {
    GIMBAL_ASSIGN_OR_RETURN(const RecordHeader header, header_from_json(line));
    engine_ = make_(header);
    GIMBAL_ASSIGN_OR_RETURN(loop_, StepLoop::make(header.options, engine_->executor(), &recorder_));
    return {};
  }

  // A line with events: carries them out and keeps what was decided.
  Result<void> call(const Json& line) {
    if (!decided_.empty()) return invalid_argument("a decision is missing: " + decided_.front());
    GIMBAL_ASSIGN_OR_RETURN(RecordedCall call, call_from_json(line));
    if (call.now < now_) return invalid_argument("time goes backwards");
    now_ = call.now;
    engine_->come_to(now_);
    for (const Event& event : call.events) {
      if (!std::visit([this](const auto& what) { return this->possible(what); }, event))
        return invalid_argument("an event that the engine would not have had");
    }
    written_.str({});
    if (loop_->on(now_, call.events).intent) asking_ = true;
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
    if (decided_.front() != text)
      return invalid_argument("the decision differs, now it is " + decided_.front());
    decided_.pop_front();
    report_.orders += text.find("\"order\"") != std::string::npos ? 1 : 0;
    report_.plans += text.find("\"plan\"") != std::string::npos ? 1 : 0;
    return {};
  }

  bool possible(const SubmitGroup& event) {
    return std::ranges::all_of(event.requests, [this](const Request& request) {
      return requests_.insert(request.id).second;
    });
  }
  static bool possible(const CancelRequest& /*event*/) { return true; }
  static bool possible(const SetDraining& /*event*/) { return true; }
  // Answers the last intent, once.
  bool possible(const StartStep& /*event*/) { return std::exchange(asking_, false); }
  template <class Answer>
  bool possible(const Answer& answer) {
    return engine_->answer(answer);
  }

  MakeReplayedEngine make_;
  std::unique_ptr<ReplayedEngine> engine_;
  std::ostringstream written_;
  EventRecorder recorder_;
  std::unique_ptr<StepLoop> loop_;
  TimePoint now_{};
  bool asking_ = false;
  std::unordered_set<RequestId> requests_;
  std::deque<std::string> decided_;  // that the record has not come to
  ReplayReport report_;
};

}  // namespace

Result<ReplayReport> walk_record(std::istream& record, MakeReplayedEngine make) {
  Walk walk(make);
  std::string text;
  for (int number = 1; std::getline(record, text); ++number) {
    const auto line = parse_json(text);
    if (!line.ok() && record.eof() && walk.begun())
      break;  // cut off in the middle of its last line
    const Result<void> done = line.ok() ? walk.line(*line, text) : Result<void>(line.error());
    if (!done.ok()) {
      return invalid_argument(
          fmt::format("line {} of the record: {}", number, done.error().message));
    }
  }
  if (!walk.begun()) return invalid_argument("the record is empty");
  return walk.report();
}

}  // namespace gimbal::sched
