#include "cost/step_log.h"

#include <fmt/format.h>

#include <fstream>
#include <istream>
#include <optional>
#include <unordered_map>
#include <variant>

#include "base/json.h"
#include "sched/record_json.h"

namespace gimbal::cost {
namespace {

constexpr std::int64_t kMostTokens = 1LL << 31;

class StepLog {
 public:
  // A line after the header. What is not about steps is passed over.
  Result<void> line(const Json& json) {
    if (!json.is_object()) return invalid_argument("must be an object, is " + excerpt(json));
    if (json.contains("events")) {
      GIMBAL_ASSIGN_OR_RETURN(const sched::RecordedCall call, sched::call_from_json(json));
      now_ = call.now;
      for (const sched::Event& event : call.events)
        std::visit([this](const auto& what) { handle(what); }, event);
      return {};
    }
    if (json.contains("plan")) return plan(json);
    if (json.contains("drop")) running_.reset();
    return {};
  }

  std::vector<MeasuredStep> take() { return std::move(steps_); }

 private:
  struct Running {
    std::uint64_t batch = 0;
    TimePoint planned{};
    RankWork work;
    std::uint64_t gang_step = 0;
  };

  void handle(const sched::SubmitGroup& event) {
    for (const sched::Request& request : event.requests)
      prompts_[request.id] = static_cast<std::int64_t>(request.prompt.size());
  }
  void handle(const sched::StepFinished& event) {
    if (running_ && running_->batch == event.batch.value()) {
      steps_.push_back({.work = running_->work,
                        .distinct_experts = static_cast<double>(event.distinct_experts),
                        .attention_ms = to_ms(event.attention),
                        .service_ms = to_ms(event.service),
                        .wait_ms = to_ms(event.wait),
                        .whole_ms = to_ms(now_ - running_->planned),
                        .gang_step = running_->gang_step});
    }
    running_.reset();
  }
  void handle(const sched::StepFailed& /*event*/) { running_.reset(); }
  void handle(const sched::StartStep& event) { gang_step_ = event.members == 0 ? 0 : event.number; }
  template <class Other>
  void handle(const Other& /*event*/) {}

  Result<void> plan(const Json& json) {
    JsonObject object(json);
    GIMBAL_ASSIGN_OR_RETURN(const auto batch, object.integer("plan", 0, UINT32_MAX));
    const Json* rows = object.raw("rows");
    if (rows == nullptr || !rows->is_array()) return object.wrong("rows", "an array");
    Running running{.batch = static_cast<std::uint64_t>(batch.value_or(0)),
                    .planned = now_,
                    .gang_step = gang_step_};
    for (const Json& row : *rows)
      GIMBAL_RETURN_IF_ERROR(add(row, running.work));
    running_ = running;
    return {};
  }

  // [request, position, rows, samples]
  Result<void> add(const Json& row, RankWork& work) const {
    const auto number = [&](std::size_t i, std::int64_t low) -> std::optional<std::int64_t> {
      if (!row[i].is_number_integer()) return std::nullopt;
      const auto value = row[i].get<std::int64_t>();
      if (value < low || value >= kMostTokens) return std::nullopt;
      return value;
    };
    const bool shaped = row.is_array() && row.size() == 4 && row[0].is_number_unsigned() &&
                        row[3].is_boolean() && number(1, 0) && number(2, 1);
    if (!shaped) {
      return invalid_argument("rows must be [request, position, rows, samples], is " + excerpt(row),
                              "rows");
    }
    const auto prompt = prompts_.find(RequestId{row[0].get<std::uint64_t>()});
    if (prompt == prompts_.end())
      return invalid_argument("rows must name submitted requests, is " + excerpt(row), "rows");
    const std::int64_t position = *number(1, 0);
    const std::int64_t rows = *number(2, 1);
    if (position >= prompt->second && rows == 1) {
      ++work.decodes;
      work.decode_context += static_cast<double>(position + 1);
    } else {
      work.prefill_rows += static_cast<int>(rows);
      work.prefill_context += static_cast<double>(rows) *
                              (static_cast<double>(position) + static_cast<double>(rows + 1) / 2);
    }
    work.sampled += row[3].get<bool>() ? 1 : 0;
    return {};
  }

  TimePoint now_{};
  std::uint64_t gang_step_ = 0;                          // of the next plan
  std::unordered_map<RequestId, std::int64_t> prompts_;  // tokens
  std::optional<Running> running_;
  std::vector<MeasuredStep> steps_;
};

}  // namespace

Result<std::vector<MeasuredStep>> read_step_log(std::istream& record) {
  StepLog log;
  std::string text;
  int number = 1;
  for (; std::getline(record, text); ++number) {
    const auto failed = [&](const Error& error) {
      return invalid_argument(fmt::format("line {} of the record: {}", number, error.message),
                              error.field);
    };
    const auto line = parse_json(text);
    if (!line.ok()) {
      if (record.eof() && number > 1) break;  // cut off in the middle of its last line
      return failed(line.error());
    }
    if (number == 1) {
      if (const auto header = sched::header_from_json(*line); !header.ok())
        return failed(header.error());
      continue;
    }
    if (const auto read = log.line(*line); !read.ok()) return failed(read.error());
  }
  if (number == 1) return invalid_argument("the record is empty");
  return log.take();
}

Result<std::vector<MeasuredStep>> read_step_log(const std::string& path) {
  std::ifstream file(path);
  if (!file) return io_error(path, errno);
  auto steps = read_step_log(file);
  if (!steps.ok()) return steps.error().within(path);
  return steps;
}

}  // namespace gimbal::cost
