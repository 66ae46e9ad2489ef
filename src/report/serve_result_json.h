#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "report/request_record.h"
#include "report/serve_result.h"

namespace gimbal::report {

// What a run was, beside what it came to.
struct RunInfo {
  std::string date;  // "20260131-235959"
  std::string label;
  std::string backend = "openai";
  std::string model_id;
  std::string base_url;
  std::string workload;  // its name, for people
  std::int64_t num_prompts = 0;
  std::optional<double> request_rate = {};  // absent: unlimited, "inf" in JSON
  double burstiness = 1.0;
  std::optional<std::int64_t> max_concurrency = {};
  std::optional<std::uint64_t> seed = {};
  // "KEY=VALUE" of the operator, written as fields of their own.
  std::vector<std::pair<std::string, std::string>> metadata = {};
};

struct ServeJsonOptions {
  std::vector<Metric> metrics{kMetrics.begin(), kMetrics.end()};
  std::vector<double> percentiles{90.0, 95.0, 99.0};
};

// The field names of `vllm bench serve`: "duration" (s), "completed", "request_throughput",
// "mean_ttft_ms", "p99_e2el_ms" …; ours beside them: "classes" and "users" (objects of such
// objects), "total_cached_tokens", "prefix_hit_rate" (0 to 1, or null), "identity_check",
// "scheduling_lag_ms", "valid".
[[nodiscard]] nlohmann::json to_json(const ServeResult& result, const RunInfo& info,
                                     const ServeJsonOptions& options = {});

// vLLM's lists of one entry a request: "input_lens", "output_lens", "start_times", "ttfts", "itls",
// "generated_texts", "errors" (times in seconds), and ours: "scheduled_times", "ttfts_content",
// "cached_lens", "classes_of", "users_of".
[[nodiscard]] nlohmann::json details_json(std::span<const RequestRecord> records);

// A result as it was saved, by this program or by `vllm bench serve`.
struct SavedResult {
  std::string path;
  nlohmann::json fields;               // an object
  std::vector<RequestRecord> records;  // empty where it was saved without details

  // A number among the fields, also of "classes.LS.mean_ttft_ms"; absent when it is not there.
  [[nodiscard]] std::optional<double> number(std::string_view name) const;
  // Why its numbers are not to be trusted: it says that it is invalid, or was interrupted. Empty:
  // nothing is known against it.
  [[nodiscard]] std::string invalid_reason() const;
};

// Errors name the path, and the field and entry at fault.
[[nodiscard]] Result<SavedResult> parse_saved_result(nlohmann::json document, std::string path);
// The results of a file: one, or one a line where they were appended (`--append-result`); these
// have "PATH:LINE" for a path. At least one.
[[nodiscard]] Result<std::vector<SavedResult>> read_saved_results(const std::string& path);
[[nodiscard]] Result<std::vector<SavedResult>> parse_saved_results(std::string_view text,
                                                                   const std::string& path);

}  // namespace gimbal::report
