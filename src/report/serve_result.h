#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "report/request_record.h"
#include "report/sample.h"

namespace gimbal::report {

// The latencies of a serving benchmark, with the definitions of `vllm bench serve`: TPOT has no
// value for a request of one token, ITL has one value for every gap of every request.
enum class Metric : std::uint8_t { kTtft, kTpot, kItl, kE2el, kTtftContent };
inline constexpr std::array kMetrics{Metric::kTtft, Metric::kTpot, Metric::kItl, Metric::kE2el,
                                     Metric::kTtftContent};
// "ttft", as in "mean_ttft_ms"; "ttft_content" is the one that vLLM does not have.
[[nodiscard]] std::string_view to_string(Metric metric);
[[nodiscard]] Result<Metric> parse_metric(std::string_view name);
// "ttft,tpot": a list of names, none twice. Errors name the part at fault.
[[nodiscard]] Result<std::vector<Metric>> parse_metrics(std::string_view names);
// "50,99.9": numbers in (0, 100], none twice.
[[nodiscard]] Result<std::vector<double>> parse_percentiles(std::string_view list);

// A request is good when each of its latencies named here is at most `ms`.
struct GoodputLimit {
  Metric metric = Metric::kTtft;  // kTtft, kTpot or kE2el
  double ms = 0.0;
};
// "ttft:500".
[[nodiscard]] Result<GoodputLimit> parse_goodput_limit(std::string_view text);

struct ServeResultOptions {
  std::vector<GoodputLimit> goodput = {};  // empty: no goodput
  // Above this p99 of sent-late-by a run says more of the client than of the server.
  double max_lag_p99_ms = 5.0;
  // Requests without a record, because the run was stopped. With any it is invalid: those that are
  // answered first are not like the others.
  std::int64_t unanswered = 0;
};

// What a set of requests came to. Rates are over the run's duration.
struct GroupResult {
  std::int64_t completed = 0;
  std::int64_t failed = 0;
  std::int64_t total_input_tokens = 0;  // of completed requests, as all totals here
  std::int64_t total_output_tokens = 0;
  std::int64_t total_cached_tokens = 0;
  bool cached_known = false;        // some answer of the run said what was cached
  double request_throughput = 0.0;  // requests a second
  double output_throughput = 0.0;   // tokens a second
  double total_token_throughput = 0.0;
  std::optional<double> request_goodput = {};          // good requests a second
  std::array<Sample, kMetrics.size()> latencies = {};  // ms, of completed requests

  // Of the prompt tokens, found in a prefix cache; 0 without any.
  [[nodiscard]] double cached_share() const {
    return total_input_tokens == 0
               ? 0.0
               : static_cast<double>(total_cached_tokens) / static_cast<double>(total_input_tokens);
  }
  // The same; absent where the server does not say what was cached, and without prompt tokens.
  [[nodiscard]] std::optional<double> prefix_hit_rate() const {
    if (!cached_known || total_input_tokens == 0) return {};
    return cached_share();
  }
  [[nodiscard]] const Sample& latency(Metric metric) const {
    return latencies[static_cast<std::size_t>(metric)];
  }
};

// E2E = TTFT + (n − 1)·TPOT for each completed request, in two ways.
//
// With the sum of the gaps between chunks for (n − 1)·TPOT. A client takes TTFT, gaps and E2E from
// the same readings of one clock, so that of a live run this holds by construction: it finds
// records that have lost or doubled a gap since.
//
// With (n − 1) mean gaps, where n is the token count of the server's usage: this holds where every
// chunk carried one token and the client saw each once. Elsewhere ITL is of chunks, TPOT of tokens.
struct IdentityCheck {
  std::int64_t requests = 0;
  double max_error_ms = 0.0;        // of the first
  double max_token_error_ms = 0.0;  // of the second, over requests with gaps
  std::int64_t uneven_chunks = 0;   // requests with other than as many chunks as tokens
  std::int64_t without_usage = 0;   // requests whose tokens are counted chunks: nothing to compare

  [[nodiscard]] bool holds() const { return max_error_ms <= 0.001; }
};

struct ServeResult {
  // From the run's start, which is the workload's time 0, to the end of the last answer, or to
  // where the run was stopped. Of a simulation: from the first arrival on.
  Duration duration{};
  GroupResult all;
  std::map<std::string, GroupResult> classes;  // by traffic_class; empty without classes
  std::map<std::string, GroupResult> users;
  double max_output_tokens_per_s = 0.0;  // the busiest second
  std::int64_t max_concurrent_requests = 0;
  IdentityCheck identity;
  Sample lag_ms;               // how late requests were sent, all of them
  std::string invalid_reason;  // empty: the run is valid

  [[nodiscard]] bool valid() const { return invalid_reason.empty(); }
};

// `lags`: by how much each request was late for reasons of the client. Requires: duration > 0.
[[nodiscard]] ServeResult summarize(std::span<const RequestRecord> records,
                                    std::span<const Duration> lags, Duration duration,
                                    const ServeResultOptions& options = {});

}  // namespace gimbal::report
