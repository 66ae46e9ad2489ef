#include "cluster/gang_recorder.h"

#include <fmt/format.h>

#include <algorithm>
#include <istream>
#include <memory>
#include <ostream>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "cluster/json_fields.h"
#include "cluster/struct_fields.h"

namespace gimbal::policy {

template <class Archive>
void fields(Archive& a, GangTimes& v) {
  a("coefficients", v.coefficients);
  a("experts", v.experts);
  a("expert_ratio", v.expert_ratio);
}

template <class Archive>
void fields(Archive& a, GangMember& v) {
  a("rank", v.rank);
  a("decodes", v.decodes);
  a("decode_context", v.decode_context);
  a("want", v.want);
  a("most", v.most);
  a("requests", v.requests);
  a("prefill_position", v.prefill_position);
  a("max_rows", v.max_rows);
  a("latency_sensitive", v.latency_sensitive);
  a("max_stage_ms", v.max_stage_ms);
  a("times", v.times);
}

template <class Archive>
void fields(Archive& a, GangPlannerOptions& v) {
  a("least_prefill", v.least_prefill);
  a("best_effort_share", v.best_effort_share);
  a("fill_slack", v.fill_slack);
  a("part_gain", v.part_gain);
  a("rejoin_steps", v.rejoin_steps);
}

}  // namespace gimbal::policy

namespace gimbal::cluster {

inline std::int64_t last_of(GangPace) {
  return static_cast<std::int64_t>(GangPace::kImmediate);
}
inline std::int64_t last_of(LeaveReason) {
  return kLeaveReasons - 1;
}

template <class Archive>
void fields(Archive& a, GangCoordinatorOptions& v) {
  a("pace", v.pace);
  a("ranks", v.ranks);
  a("layers", v.layers);
  a("patience", v.patience);
  a("grace", v.grace);
  a("least_wait", v.least_wait);
  a("to_the_end", v.to_the_end);
  a("hold_steps", v.hold_steps);
  a("least_hold", v.least_hold);
}

template <class Archive>
void fields(Archive& a, GangRules& v) {
  a("coordinator", v.coordinator);
  a("planner", v.planner);
  a("planner_options", v.planner_options);
}

template <class Archive>
void fields(Archive& a, GangIntent& v) {
  a("member", v.member);
  a("last_seen", v.last_seen);
}

template <class Archive>
void fields(Archive& a, GangStepEnded& v) {
  a("rank", v.rank);
  a("number", v.number);
  a("has_work", v.has_work);
}

template <class Archive>
void fields(Archive& a, GangLeft& v) {
  a("rank", v.rank);
  a("number", v.number);
  a("reason", v.reason);
}

template <class Archive>
void fields(Archive& a, GangIdle& v) {
  a("rank", v.rank);
  a("last_seen", v.last_seen);
}

template <class Archive>
void fields(Archive& a, GangRankDead& v) {
  a("rank", v.rank);
}

template <class Archive>
void fields(Archive&, GangTimer&) {}

template <class Archive>
void fields(Archive& a, GangStart& v) {
  a("rank", v.rank);
  a("number", v.number);
  a("members", v.members);
  a("dummies", v.dummies);
  a("budget", v.budget);
  a("expected_ms", v.expected_ms);
  a("hold_limit", v.hold_limit);
}

template <class Archive>
void fields(Archive& a, GangSolo& v) {
  a("rank", v.rank);
  a("number", v.number);
  a("reason", v.reason);
  a("expected_ms", v.expected_ms);
}

template <class Archive>
void fields(Archive& a, GangWake& v) {
  a("at", v.at);
}

namespace {

constexpr int kGangRecordVersion = 1;
constexpr int kMostRows = 1 << 28;  // of a member that is read: sums stay in range
constexpr std::int64_t kMostTime = kMostNanoseconds / 4;

// By the index of the variants.
constexpr std::array<std::string_view, std::variant_size_v<GangEvent>> kEvents = {
    "intent", "ended", "left", "idle", "dead", "timer"};
constexpr std::array<std::string_view, std::variant_size_v<GangCommand>> kCommands = {
    "start", "solo", "wake"};

// [kind, fields]
Json commands_to_json(std::span<const GangCommand> commands) {
  Json list = Json::array();
  for (const GangCommand& command : commands) {
    list.push_back({kCommands[command.index()],
                    std::visit([](const auto& what) { return write_fields(what); }, command)});
  }
  return list;
}

template <std::size_t kIndex = 0>
Result<GangEvent> read_event(std::string_view kind, const Json& value) {
  if constexpr (kIndex == std::variant_size_v<GangEvent>) {
    return invalid_argument(fmt::format("not an event: {}", kind), "event");
  } else {
    if (kind != kEvents[kIndex]) return read_event<kIndex + 1>(kind, value);
    using Event = std::variant_alternative_t<kIndex, GangEvent>;
    GIMBAL_ASSIGN_OR_RETURN(Event event, read_fields<Event>(value));
    return GangEvent(std::move(event));
  }
}

class GangReplayer {
 public:
  [[nodiscard]] bool begun() const { return coordinator_ != nullptr; }
  [[nodiscard]] const GangReplay& report() const { return report_; }

  Result<void> line(const Json& json) { return begun() ? event(json) : header(json); }

 private:
  Result<void> header(const Json& json) {
    if (!json.is_object() || !json.contains("gang_record") ||
        json.at("gang_record") != kGangRecordVersion || !json.contains("rules")) {
      return invalid_argument("not the header of a gang record: " + excerpt(json));
    }
    GIMBAL_ASSIGN_OR_RETURN(const auto rules, read_fields<GangRules>(json.at("rules")));
    const GangCoordinatorOptions& options = rules.coordinator;
    const bool valid = options.ranks >= 1 && options.ranks <= sched::kMostGangRanks &&
                       options.layers >= 1 && options.patience >= 0 && options.grace >= 0 &&
                       options.hold_steps >= 0 && options.least_wait >= Duration::zero() &&
                       options.least_hold >= Duration::zero() && options.patience <= kMostSteps &&
                       options.grace <= kMostSteps && options.hold_steps <= kMostSteps;
    if (!valid) return invalid_argument("options are out of range", "rules");
    GIMBAL_ASSIGN_OR_RETURN(planner_,
                            policy::make_gang_planner(rules.planner, rules.planner_options));
    coordinator_ = std::make_unique<GangCoordinator>(options, *planner_);
    answered_.assign(static_cast<std::size_t>(options.ranks), 0);
    return {};
  }

  Result<void> event(const Json& json) {
    if (!json.is_object() || !json.contains("event") || !json.at("event").is_string() ||
        !json.contains("value") || !json.contains("commands") || !json.contains("now") ||
        !json.at("now").is_number_integer()) {
      return invalid_argument("not an event with its commands: " + excerpt(json));
    }
    const auto now = json.at("now").get<std::int64_t>();
    if (now < now_.time_since_epoch().count() || now > kMostTime)
      return invalid_argument("time goes backwards, or too far", "now");
    now_ = TimePoint{Duration{now}};
    GIMBAL_ASSIGN_OR_RETURN(const GangEvent event,
                            read_event(json.at("event").get<std::string>(), json.at("value")));
    if (!std::visit([this](const auto& what) { return possible(what); }, event))
      return invalid_argument("an event that no rank would have sent: " + excerpt(json));
    coordinator_->on(event, now_, commands_);
    for (const GangCommand& command : commands_)
      std::visit([this](const auto& what) { note(what); }, command);
    ++report_.events;
    report_.commands += commands_.size();
    if (const Json made = commands_to_json(commands_); made != json.at("commands"))
      return invalid_argument("it commands otherwise: " + excerpt(made));
    return {};
  }

  [[nodiscard]] bool known(Rank rank) const {
    return rank.value() >= 0 && static_cast<std::size_t>(rank.value()) < answered_.size();
  }
  [[nodiscard]] std::uint64_t& answered(Rank rank) {
    return answered_[static_cast<std::size_t>(rank.value())];
  }
  [[nodiscard]] bool possible(const GangIntent& event) {
    const policy::GangMember& member = event.member;
    const auto in_range = [](int rows) { return rows >= 0 && rows <= kMostRows; };
    return known(member.rank) && event.last_seen <= answered(member.rank) &&
           in_range(member.decodes) && in_range(member.want) && in_range(member.most) &&
           in_range(member.max_rows) && in_range(member.requests) && member.want <= member.most;
  }
  [[nodiscard]] bool possible(const GangTimer& /*event*/) const { return true; }
  template <class Event>
  [[nodiscard]] bool possible(const Event& event) const {
    return known(event.rank);
  }
  void note(const GangWake& /*command*/) {}
  template <class Answer>
  void note(const Answer& answer) {
    answered(answer.rank) = answer.number;
  }

  static constexpr double kMostSteps = 1e6;

  std::unique_ptr<policy::GangPlanner> planner_;
  std::unique_ptr<GangCoordinator> coordinator_;
  std::vector<GangCommand> commands_;
  std::vector<std::uint64_t> answered_;  // by rank, the last answer's number
  TimePoint now_{};
  GangReplay report_;
};

}  // namespace

void GangRecorder::header(const GangRules& rules) {
  out_ << Json{{"gang_record", kGangRecordVersion}, {"rules", write_fields(rules)}} << '\n';
}

void GangRecorder::event(const GangEvent& event, TimePoint now,
                         std::span<const GangCommand> commands) {
  out_ << Json{{"now", now.time_since_epoch().count()},
               {"event", kEvents[event.index()]},
               {"value", std::visit([](const auto& what) { return write_fields(what); }, event)},
               {"commands", commands_to_json(commands)}}
       << '\n';
}

Result<GangReplay> replay_gang(std::istream& in) {
  GangReplayer replayer;
  std::string text;
  for (int number = 1; std::getline(in, text); ++number) {
    const auto json = parse_json(text);
    if (!json.ok() && in.eof() && replayer.begun()) break;  // cut off in its last line
    const Result<void> done = json.ok() ? replayer.line(*json) : Result<void>(json.error());
    if (!done.ok())
      return invalid_argument(fmt::format("line {}: {}", number, done.error().message));
  }
  if (!replayer.begun()) return invalid_argument("the record is empty");
  return replayer.report();
}

}  // namespace gimbal::cluster
