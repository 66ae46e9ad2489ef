#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "workload/arrivals.h"
#include "workload/request_spec.h"
#include "workload/trace_reader.h"

namespace gimbal::workload {

// The parsers behind parse_trace, one a format. They return requests in the trace's order.

inline constexpr std::int64_t kMaxTraceTokens = 100'000'000;    // of one prompt or output
inline constexpr double kMaxTraceSeconds = kMaxArrivalSeconds;  // a timestamp

[[nodiscard]] Result<Workload> parse_azure(std::string_view text, const TraceOptions& options);
[[nodiscard]] Result<Workload> parse_burst_gpt(std::string_view text, const TraceOptions& options);
[[nodiscard]] Result<Workload> parse_share_gpt_lengths(std::string_view text,
                                                       const TraceOptions& options);
[[nodiscard]] Result<Workload> parse_mooncake(std::string_view text, const TraceOptions& options);
[[nodiscard]] Result<Workload> parse_bailian(std::string_view text, const TraceOptions& options);
[[nodiscard]] Result<Workload> parse_gimbal(std::string_view text, const TraceOptions& options);
[[nodiscard]] Result<Workload> parse_share_gpt(std::string_view text, const TraceOptions& options);

// Adds a row without prefix identity, or counts it as failed when it has no tokens.
void add_plain_row(Workload& workload, Duration arrival, std::int64_t prompt_tokens,
                   std::int64_t output_tokens);

}  // namespace gimbal::workload
