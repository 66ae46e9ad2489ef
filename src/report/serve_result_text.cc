#include "report/serve_result_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string_view>

#include "report/table.h"

namespace gimbal::report {
namespace {

constexpr int kWidth = 50;

std::string count_line(std::string_view name, std::int64_t count) {
  return fmt::format("{:<40} {:<10}\n", name, count);
}
std::string number_line(std::string_view name, double value) {
  return fmt::format("{:<40} {:<10.2f}\n", name, value);
}

std::string upper(std::string_view name) {
  std::string out(name);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return out;
}

std::string_view title_of(Metric metric) {
  switch (metric) {
    case Metric::kTtft:
      return "Time to First Token";
    case Metric::kTpot:
      return "Time per Output Token (excl. 1st token)";
    case Metric::kItl:
      return "Inter-token Latency";
    case Metric::kE2el:
      return "End-to-end Latency";
    case Metric::kTtftContent:
      return "Time to First Content";
  }
  return "";
}

std::string metric_lines(const GroupResult& group, Metric metric, const ServeJsonOptions& options) {
  const Sample& sample = group.latency(metric);
  const std::string name = upper(to_string(metric));
  std::string out = fmt::format("{:-^{}}\n", title_of(metric), kWidth);
  out += number_line(fmt::format("Mean {} (ms):", name), sample.mean());
  out += number_line(fmt::format("Median {} (ms):", name), sample.median());
  out += number_line(fmt::format("Std {} (ms):", name), sample.standard_deviation());
  for (const double p : options.percentiles) {
    out += number_line(fmt::format("P{:g} {} (ms):", p, name), sample.percentile(p));
  }
  return out;
}

std::string class_table(const ServeResult& result) {
  Table table({"class", "completed", "mean TTFT", "p99 TTFT", "mean TPOT", "mean E2E", "p99 E2E",
               "goodput/s"});
  for (const auto& [name, group] : result.classes) {
    table.add_row(
        {Cell::of_text(name), Cell::of_count(group.completed),
         Cell::of_number(group.latency(Metric::kTtft).mean()),
         Cell::of_number(group.latency(Metric::kTtft).percentile(99)),
         Cell::of_number(group.latency(Metric::kTpot).mean()),
         Cell::of_number(group.latency(Metric::kE2el).mean()),
         Cell::of_number(group.latency(Metric::kE2el).percentile(99)),
         group.request_goodput ? Cell::of_number(*group.request_goodput) : Cell::absent()});
  }
  return table.to_markdown();
}

}  // namespace

std::string to_text(const ServeResult& result, const ServeJsonOptions& options) {
  const GroupResult& all = result.all;
  std::string out = fmt::format("{:=^{}}\n", " Serving Benchmark Result ", kWidth);
  out += count_line("Successful requests:", all.completed);
  out += count_line("Failed requests:", all.failed);
  out += number_line("Benchmark duration (s):", to_ms(result.duration) * 1e-3);
  out += count_line("Total input tokens:", all.total_input_tokens);
  out += count_line("  of them from the prefix cache:", all.total_cached_tokens);
  if (const auto rate = all.prefix_hit_rate())
    out += number_line("Prefix hit rate (%):", 100.0 * *rate);
  out += count_line("Total generated tokens:", all.total_output_tokens);
  out += number_line("Request throughput (req/s):", all.request_throughput);
  if (all.request_goodput) out += number_line("Request goodput (req/s):", *all.request_goodput);
  out += number_line("Output token throughput (tok/s):", all.output_throughput);
  out += number_line("Peak output token throughput (tok/s):", result.max_output_tokens_per_s);
  out += count_line("Peak concurrent requests:", result.max_concurrent_requests);
  out += number_line("Total token throughput (tok/s):", all.total_token_throughput);
  for (const Metric metric : options.metrics) {
    out += metric_lines(all, metric, options);
  }
  out += std::string(kWidth, '=') + "\n";
  if (!result.classes.empty()) out += class_table(result);
  if (!result.users.empty()) {
    std::vector<double> means;
    for (const auto& [name, group] : result.users) {
      if (group.completed > 0) means.push_back(group.latency(Metric::kE2el).mean());
    }
    const Sample users(std::move(means));
    out += fmt::format("{} users: mean E2E from {:.2f} to {:.2f} ms, median {:.2f}\n",
                       result.users.size(), users.min(), users.max(), users.median());
  }
  out += fmt::format("E2E = TTFT + (n-1) TPOT: {} for {} requests, largest difference {:.6f} ms\n",
                     result.identity.holds() ? "holds" : "BROKEN", result.identity.requests,
                     result.identity.max_error_ms);
  if (result.identity.uneven_chunks > 0) {
    out += fmt::format(
        "{} answers came in chunks of other than one token: ITL is of chunks, and TTFT + (n-1) ITL "
        "differs from E2E by up to {:.3f} ms\n",
        result.identity.uneven_chunks, result.identity.max_token_error_ms);
  }
  if (result.identity.without_usage > 0) {
    out += fmt::format("{} answers have no usage: their chunks are counted as tokens\n",
                       result.identity.without_usage);
  }
  out += fmt::format("sent late by: mean {:.3f}, p99 {:.3f}, at most {:.3f} ms\n",
                     result.lag_ms.mean(), result.lag_ms.percentile(99), result.lag_ms.max());
  if (!result.valid()) out += fmt::format("INVALID RUN: {}\n", result.invalid_reason);
  return out;
}

}  // namespace gimbal::report
