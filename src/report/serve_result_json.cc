#include "report/serve_result_json.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <fstream>

#include "base/json.h"

namespace gimbal::report {
namespace {

constexpr std::size_t kMaxResultBytes = std::size_t{4} << 30;
constexpr double kLongestSeconds = 1e9;

Duration of_seconds(double value) {
  return Duration{std::llround(value * 1e9)};
}

void add_group(nlohmann::json& json, const GroupResult& group, const ServeJsonOptions& options) {
  json["completed"] = group.completed;
  json["failed"] = group.failed;
  json["total_input_tokens"] = group.total_input_tokens;
  json["total_output_tokens"] = group.total_output_tokens;
  json["total_cached_tokens"] = group.total_cached_tokens;
  json["prefix_hit_rate"] = nullptr;
  if (const auto rate = group.prefix_hit_rate()) json["prefix_hit_rate"] = *rate;
  json["request_throughput"] = group.request_throughput;
  json["request_goodput"] = nullptr;
  if (group.request_goodput) json["request_goodput"] = *group.request_goodput;
  json["output_throughput"] = group.output_throughput;
  json["total_token_throughput"] = group.total_token_throughput;
  for (const Metric metric : options.metrics) {
    const Sample& sample = group.latency(metric);
    const auto name = to_string(metric);
    json[fmt::format("mean_{}_ms", name)] = sample.mean();
    json[fmt::format("median_{}_ms", name)] = sample.median();
    json[fmt::format("std_{}_ms", name)] = sample.standard_deviation();
    for (const double p : options.percentiles) {
      json[fmt::format("p{:g}_{}_ms", p, name)] = sample.percentile(p);
    }
  }
}

nlohmann::json groups_json(const std::map<std::string, GroupResult>& groups,
                           const ServeJsonOptions& options) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, group] : groups) {
    add_group(json[name], group, options);
  }
  return json;
}

// Reads the lists of one entry a request.
class DetailReader {
 public:
  explicit DetailReader(const nlohmann::json& fields) : fields_(fields) {}

  Result<std::vector<RequestRecord>> read();

 private:
  // The list, or null where it is not there; an error where it is no list of `size_` entries.
  Result<const nlohmann::json*> list(const char* name) const;
  Result<void> times(const char* name, Duration RequestRecord::*member);
  Result<void> counts(const char* name, std::int64_t RequestRecord::*member);
  Result<void> strings(const char* name, std::string RequestRecord::*member);
  Result<void> gaps();
  static Error wrong(const std::string& place, const nlohmann::json& value, const char* expected) {
    return invalid_argument(fmt::format("{} must be {}, is {}", place, expected, excerpt(value)),
                            place);
  }
  static Result<Duration> time_of(const nlohmann::json& value, const std::string& place) {
    if (!value.is_number() || std::abs(value.get<double>()) > kLongestSeconds) {
      return wrong(place, value, "a number of seconds");
    }
    return of_seconds(value.get<double>());
  }

  const nlohmann::json& fields_;
  std::vector<RequestRecord> records_;
};

Result<const nlohmann::json*> DetailReader::list(const char* name) const {
  const auto found = fields_.find(name);
  if (found == fields_.end()) return static_cast<const nlohmann::json*>(nullptr);
  if (!found->is_array()) return wrong(name, *found, "a list");
  if (found->size() != records_.size()) {
    return invalid_argument(fmt::format("{} must have as many entries as ttfts, {}, has {}", name,
                                        records_.size(), found->size()),
                            name);
  }
  return &*found;
}

Result<void> DetailReader::times(const char* name, Duration RequestRecord::*member) {
  GIMBAL_ASSIGN_OR_RETURN(const nlohmann::json* const values, list(name));
  for (std::size_t i = 0; values != nullptr && i < records_.size(); ++i) {
    GIMBAL_ASSIGN_OR_RETURN(records_[i].*member,
                            time_of((*values)[i], fmt::format("{}[{}]", name, i)));
  }
  return {};
}

Result<void> DetailReader::counts(const char* name, std::int64_t RequestRecord::*member) {
  GIMBAL_ASSIGN_OR_RETURN(const nlohmann::json* const values, list(name));
  for (std::size_t i = 0; values != nullptr && i < records_.size(); ++i) {
    const nlohmann::json& value = (*values)[i];
    if (!value.is_number_integer() || value.get<std::int64_t>() < 0) {
      return wrong(fmt::format("{}[{}]", name, i), value, "a count");
    }
    records_[i].*member = value.get<std::int64_t>();
  }
  return {};
}

Result<void> DetailReader::strings(const char* name, std::string RequestRecord::*member) {
  GIMBAL_ASSIGN_OR_RETURN(const nlohmann::json* const values, list(name));
  for (std::size_t i = 0; values != nullptr && i < records_.size(); ++i) {
    const nlohmann::json& value = (*values)[i];
    if (value.is_null()) continue;
    if (!value.is_string()) return wrong(fmt::format("{}[{}]", name, i), value, "a string");
    records_[i].*member = value.get<std::string>();
  }
  return {};
}

Result<void> DetailReader::gaps() {
  GIMBAL_ASSIGN_OR_RETURN(const nlohmann::json* const values, list("itls"));
  for (std::size_t i = 0; i < records_.size(); ++i) {
    RequestRecord& record = records_[i];
    record.e2e = record.ttft;
    if (values == nullptr) continue;
    const nlohmann::json& gaps = (*values)[i];
    if (!gaps.is_array()) return wrong(fmt::format("itls[{}]", i), gaps, "a list");
    for (std::size_t j = 0; j < gaps.size(); ++j) {
      GIMBAL_ASSIGN_OR_RETURN(const Duration gap,
                              time_of(gaps[j], fmt::format("itls[{}][{}]", i, j)));
      record.gaps.push_back(gap);
      record.e2e += gap;
    }
  }
  return {};
}

Result<std::vector<RequestRecord>> DetailReader::read() {
  const auto ttfts = fields_.find("ttfts");
  if (ttfts == fields_.end()) return std::move(records_);
  if (!ttfts->is_array()) return wrong("ttfts", *ttfts, "a list");
  records_.resize(ttfts->size());
  GIMBAL_RETURN_IF_ERROR(times("ttfts", &RequestRecord::ttft));
  GIMBAL_RETURN_IF_ERROR(gaps());
  GIMBAL_RETURN_IF_ERROR(times("start_times", &RequestRecord::sent));
  GIMBAL_RETURN_IF_ERROR(times("scheduled_times", &RequestRecord::scheduled));
  GIMBAL_RETURN_IF_ERROR(times("ttfts_content", &RequestRecord::ttft_content));
  GIMBAL_RETURN_IF_ERROR(counts("input_lens", &RequestRecord::prompt_tokens));
  GIMBAL_RETURN_IF_ERROR(counts("output_lens", &RequestRecord::output_tokens));
  GIMBAL_RETURN_IF_ERROR(counts("cached_lens", &RequestRecord::cached_tokens));
  GIMBAL_RETURN_IF_ERROR(strings("classes_of", &RequestRecord::traffic_class));
  GIMBAL_RETURN_IF_ERROR(strings("users_of", &RequestRecord::user));
  GIMBAL_RETURN_IF_ERROR(strings("errors", &RequestRecord::error));
  return std::move(records_);
}

}  // namespace

nlohmann::json to_json(const ServeResult& result, const RunInfo& info,
                       const ServeJsonOptions& options) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [key, value] : info.metadata)
    json[key] = value;
  json["date"] = info.date;
  json["label"] = info.label;
  json["backend"] = info.backend;
  json["endpoint_type"] = info.backend;
  json["model_id"] = info.model_id;
  json["tokenizer_id"] = info.model_id;
  json["base_url"] = info.base_url;
  json["workload"] = info.workload;
  json["num_prompts"] = info.num_prompts;
  json["request_rate"] = "inf";
  if (info.request_rate) json["request_rate"] = *info.request_rate;
  json["burstiness"] = info.burstiness;
  json["max_concurrency"] = nullptr;
  if (info.max_concurrency) json["max_concurrency"] = *info.max_concurrency;
  json["seed"] = nullptr;
  if (info.seed) json["seed"] = *info.seed;
  json["duration"] = to_seconds(result.duration);
  add_group(json, result.all, options);
  json["max_output_tokens_per_s"] = result.max_output_tokens_per_s;
  json["max_concurrent_requests"] = result.max_concurrent_requests;
  json["classes"] = groups_json(result.classes, options);
  json["users"] = groups_json(result.users, options);
  json["identity_check"] = {{"requests", result.identity.requests},
                            {"max_error_ms", result.identity.max_error_ms},
                            {"max_token_error_ms", result.identity.max_token_error_ms},
                            {"uneven_chunks", result.identity.uneven_chunks},
                            {"without_usage", result.identity.without_usage},
                            {"holds", result.identity.holds()}};
  json["scheduling_lag_ms"] = {{"mean", result.lag_ms.mean()},
                               {"p99", result.lag_ms.percentile(99.0)},
                               {"max", result.lag_ms.max()}};
  json["valid"] = result.valid();
  json["invalid_reason"] = result.invalid_reason;
  return json;
}

nlohmann::json details_json(std::span<const RequestRecord> records) {
  nlohmann::json json;
  for (const char* name :
       {"input_lens", "output_lens", "start_times", "ttfts", "itls", "generated_texts", "errors",
        "scheduled_times", "ttfts_content", "cached_lens", "classes_of", "users_of"}) {
    json[name] = nlohmann::json::array();
  }
  for (const RequestRecord& record : records) {
    nlohmann::json gaps = nlohmann::json::array();
    for (const Duration gap : record.gaps)
      gaps.push_back(to_seconds(gap));
    json["input_lens"].push_back(record.prompt_tokens);
    json["output_lens"].push_back(record.output_tokens);
    json["start_times"].push_back(to_seconds(record.sent));
    json["ttfts"].push_back(to_seconds(record.ttft));
    json["itls"].push_back(std::move(gaps));
    json["generated_texts"].push_back(record.text);
    json["errors"].push_back(record.error);
    json["scheduled_times"].push_back(to_seconds(record.scheduled));
    json["ttfts_content"].push_back(to_seconds(record.ttft_content));
    json["cached_lens"].push_back(record.cached_tokens);
    json["classes_of"].push_back(record.traffic_class);
    json["users_of"].push_back(record.user);
  }
  return json;
}

std::optional<double> SavedResult::number(std::string_view name) const {
  const nlohmann::json* at = &fields;
  while (true) {
    // Names of classes and users may hold dots: the longest key that is there is meant.
    auto found = at->find(name);
    if (found != at->end()) {
      if (!found->is_number()) return {};
      return found->get<double>();
    }
    const auto dot = name.find('.');
    if (dot == std::string_view::npos) return {};
    found = at->find(name.substr(0, dot));
    if (found == at->end() || !found->is_object()) return {};
    at = &*found;
    name.remove_prefix(dot + 1);
  }
}

std::string SavedResult::invalid_reason() const {
  const auto is = [&](const char* name, bool value) {
    const auto found = fields.find(name);
    return found != fields.end() && *found == nlohmann::json(value);
  };
  const auto reason = fields.find("invalid_reason");
  const bool said = reason != fields.end() && reason->is_string();
  if (is("valid", false)) {
    std::string text = said ? reason->get<std::string>() : std::string();
    return text.empty() ? "it gives no reason" : text;
  }
  return is("interrupted", true) ? "interrupted" : "";
}

Result<SavedResult> parse_saved_result(nlohmann::json document, std::string path) {
  if (!document.is_object()) {
    return invalid_argument(
        fmt::format("{}: a result is an object, this is {}", path, excerpt(document)));
  }
  if (!document.contains("duration") || !document.contains("completed")) {
    return invalid_argument(fmt::format(
        "{}: not a result of a serving benchmark: it has no duration or no completed", path));
  }
  SavedResult result{.path = std::move(path), .fields = std::move(document)};
  auto records = DetailReader(result.fields).read();
  if (!records.ok()) return records.error().within(result.path);
  result.records = std::move(*records);
  return result;
}

Result<std::vector<SavedResult>> parse_saved_results(std::string_view text,
                                                     const std::string& path) {
  std::vector<SavedResult> results;
  auto whole = parse_json(text);
  if (whole.ok()) {
    GIMBAL_ASSIGN_OR_RETURN(SavedResult result, parse_saved_result(std::move(*whole), path));
    results.push_back(std::move(result));
    return results;
  }
  std::size_t line = 0;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const std::string_view one = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++line;
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto document = parse_json(one);
    // One document over several lines: the error is about the whole.
    if (!document.ok())
      return results.empty() ? whole.error().within(path)
                             : document.error().within(fmt::format("{}:{}", path, line));
    GIMBAL_ASSIGN_OR_RETURN(
        SavedResult result,
        parse_saved_result(std::move(*document), fmt::format("{}:{}", path, line)));
    results.push_back(std::move(result));
  }
  if (results.empty()) return whole.error().within(path);
  return results;
}

Result<std::vector<SavedResult>> read_saved_results(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return io_error(path, errno);
  const auto size = static_cast<std::streamoff>(file.tellg());
  if (size < 0) return io_error(path, EISDIR);
  if (static_cast<std::size_t>(size) > kMaxResultBytes) {
    return invalid_argument(
        fmt::format("{}: larger than {} bytes: {}", path, kMaxResultBytes, size));
  }
  std::string text(static_cast<std::size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(text.data(), size)) return io_error(path, EIO);
  return parse_saved_results(text, path);
}

}  // namespace gimbal::report
