#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "workload/request_spec.h"

namespace gimbal::workload {

enum class TraceFormat : std::uint8_t {
  kGimbal,    // what write_jsonl writes
  kMooncake,  // JSONL: timestamp (ms), input_length, output_length, hash_ids
  kBailian,   // JSONL: chat_id, parent_chat_id, timestamp (s), lengths, hash_ids of 16 tokens
  kAzure,     // CSV: TIMESTAMP, ContextTokens, GeneratedTokens
  kBurstGpt,  // CSV: Timestamp (s), Request tokens, Response tokens
  kShareGptLengths,  // CSV: num_prefill_tokens, num_decode_tokens; no arrivals
  kShareGpt,         // JSON: conversations; the first two turns are prompt and answer; no arrivals
};
// "gimbal", "mooncake", "bailian", "azure", "burstgpt", "sharegpt-lengths", "sharegpt".
[[nodiscard]] std::string_view to_string(TraceFormat format);
[[nodiscard]] Result<TraceFormat> parse_trace_format(std::string_view name);

struct TraceOptions {
  std::optional<TraceFormat> format = {};  // absent: recognised from the content
  // Tokens of a block that a hash_id names. Absent: 512 or 16 in Mooncake traces, whichever fits
  // the first request; 16 in Bailian's.
  std::optional<std::int64_t> block_size = {};
  std::size_t max_requests = 0;  // read no more rows than this; 0: all
  // Tokens of a text, for ShareGPT conversations. Empty: a token every four bytes, and the workload
  // says that its lengths are estimates.
  std::function<std::int64_t(std::string_view)> count_tokens = {};
};

// The format of a text, from its first line: names of columns or fields. Error: none fits, or the
// line cannot be read; it names the line, and what is wrong in it the column.
[[nodiscard]] Result<TraceFormat> recognise_trace(std::string_view text);

// Reads a trace. Requests are in order of arrival (rows with equal times in the trace's order),
// times count from the first of them, but those of kGimbal are kept as they were written. A trace
// without prefix identity gets a fresh part for each prompt. Rows without prompt or output tokens
// are failed requests: they are left out and counted. Errors name line (or entry) and column (or
// field).
[[nodiscard]] Result<Workload> parse_trace(std::string_view text, const TraceOptions& options = {});
[[nodiscard]] Result<Workload> read_trace(const std::string& path,
                                          const TraceOptions& options = {});

}  // namespace gimbal::workload
