#include "report/serve_result.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/check.h"

namespace gimbal::report {
namespace {

using Records = std::vector<const RequestRecord*>;

// What groups of its requests are summed up with.
struct Run {
  Duration duration{};
  bool cached_known = false;
  const ServeResultOptions& options;
};

// The parts of "a,b,c".
std::vector<std::string_view> parts_of(std::string_view list) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto comma = list.find(',');
    parts.push_back(list.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    list.remove_prefix(comma + 1);
  }
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return {};
  return value;
}

double value_of(const RequestRecord& record, Metric metric) {
  switch (metric) {
    case Metric::kTtft:
      return to_ms(record.ttft);
    case Metric::kTpot:
      return record.tpot_ms();
    case Metric::kE2el:
      return to_ms(record.e2e);
    case Metric::kTtftContent:
      return to_ms(record.ttft_content);
    case Metric::kItl:
      break;
  }
  GIMBAL_CHECK(false, "a request has many inter-token latencies");
  return 0.0;
}

bool is_good(const RequestRecord& record, const std::vector<GoodputLimit>& limits) {
  return std::all_of(limits.begin(), limits.end(), [&](const GoodputLimit& limit) {
    return value_of(record, limit.metric) <= limit.ms;
  });
}

std::array<Sample, kMetrics.size()> latencies_of(const Records& completed) {
  std::array<std::vector<double>, kMetrics.size()> values;
  const auto of = [&](Metric metric) -> auto& {
    return values[static_cast<std::size_t>(metric)];
  };
  for (const RequestRecord* record : completed) {
    of(Metric::kTtft).push_back(to_ms(record->ttft));
    of(Metric::kE2el).push_back(to_ms(record->e2e));
    if (record->output_tokens > 1) of(Metric::kTpot).push_back(record->tpot_ms());
    if (record->ttft_content > Duration{}) {
      of(Metric::kTtftContent).push_back(to_ms(record->ttft_content));
    }
    for (const Duration gap : record->gaps) {
      of(Metric::kItl).push_back(to_ms(gap));
    }
  }
  std::array<Sample, kMetrics.size()> samples;
  std::transform(values.begin(), values.end(), samples.begin(),
                 [](std::vector<double>& some) { return Sample(std::move(some)); });
  return samples;
}

GroupResult group_result(const Records& records, const Run& run) {
  GroupResult group;
  Records completed;
  std::int64_t good = 0;
  for (const RequestRecord* record : records) {
    if (!record->completed()) continue;
    completed.push_back(record);
    group.total_input_tokens += record->prompt_tokens;
    group.total_output_tokens += record->output_tokens;
    group.total_cached_tokens += record->cached_tokens;
    good += is_good(*record, run.options.goodput);
  }
  group.cached_known = run.cached_known;
  const double span = to_seconds(run.duration);
  group.completed = static_cast<std::int64_t>(completed.size());
  group.failed = static_cast<std::int64_t>(records.size()) - group.completed;
  group.request_throughput = static_cast<double>(group.completed) / span;
  group.output_throughput = static_cast<double>(group.total_output_tokens) / span;
  group.total_token_throughput =
      static_cast<double>(group.total_input_tokens + group.total_output_tokens) / span;
  if (!run.options.goodput.empty()) group.request_goodput = static_cast<double>(good) / span;
  group.latencies = latencies_of(completed);
  return group;
}

std::map<std::string, GroupResult> groups_by(std::span<const RequestRecord> records,
                                             std::string RequestRecord::*name, const Run& run) {
  std::map<std::string, Records> members;
  for (const RequestRecord& record : records) {
    if (!(record.*name).empty()) members[record.*name].push_back(&record);
  }
  std::map<std::string, GroupResult> groups;
  for (const auto& [key, group] : members) {
    groups.emplace(key, group_result(group, run));
  }
  return groups;
}

IdentityCheck check_identity(std::span<const RequestRecord> records) {
  IdentityCheck check;
  for (const RequestRecord& record : records) {
    if (!record.completed()) continue;
    Duration between{};
    for (const Duration gap : record.gaps)
      between += gap;
    ++check.requests;
    check.max_error_ms =
        std::max(check.max_error_ms, std::abs(to_ms(record.e2e - record.ttft - between)));
    const auto chunks = static_cast<std::int64_t>(record.gaps.size()) + 1;
    check.uneven_chunks += chunks != record.output_tokens;
    check.without_usage += record.without_usage;
    if (chunks < 2) continue;
    const double mean_gap = to_ms(between) / static_cast<double>(chunks - 1);
    const double of_tokens = mean_gap * static_cast<double>(record.output_tokens - 1);
    check.max_token_error_ms =
        std::max(check.max_token_error_ms, std::abs(to_ms(record.e2e - record.ttft) - of_tokens));
  }
  return check;
}

// Tokens and running requests of each second of the run, as vLLM counts them: by whole buckets.
void find_peaks(std::span<const RequestRecord> records, ServeResult& result) {
  std::map<std::int64_t, std::int64_t> tokens;
  std::map<std::int64_t, std::int64_t> running;
  const auto second_of = [](Duration time) {
    return std::chrono::duration_cast<std::chrono::seconds>(time).count();
  };
  for (const RequestRecord& record : records) {
    if (!record.completed()) continue;
    Duration at = record.sent + record.ttft;
    ++tokens[second_of(at)];
    for (const Duration gap : record.gaps) {
      at += gap;
      ++tokens[second_of(at)];
    }
    for (auto s = second_of(record.sent); s <= second_of(record.sent + record.e2e); ++s) {
      ++running[s];
    }
  }
  for (const auto& [second, count] : tokens) {
    result.max_output_tokens_per_s =
        std::max(result.max_output_tokens_per_s, static_cast<double>(count));
  }
  for (const auto& [second, count] : running) {
    result.max_concurrent_requests = std::max(result.max_concurrent_requests, count);
  }
}

}  // namespace

std::string_view to_string(Metric metric) {
  switch (metric) {
    case Metric::kTtft:
      return "ttft";
    case Metric::kTpot:
      return "tpot";
    case Metric::kItl:
      return "itl";
    case Metric::kE2el:
      return "e2el";
    case Metric::kTtftContent:
      return "ttft_content";
  }
  return "";
}

Result<Metric> parse_metric(std::string_view name) {
  for (const Metric metric : kMetrics) {
    if (to_string(metric) == name) return metric;
  }
  return invalid_argument(
      fmt::format("a metric is ttft, tpot, itl, e2el or ttft_content, not '{}'", name));
}

Result<std::vector<Metric>> parse_metrics(std::string_view names) {
  std::vector<Metric> metrics;
  for (const std::string_view name : parts_of(names)) {
    GIMBAL_ASSIGN_OR_RETURN(const Metric metric, parse_metric(name));
    if (std::find(metrics.begin(), metrics.end(), metric) != metrics.end()) {
      return invalid_argument(fmt::format("a metric is named twice: {}", name));
    }
    metrics.push_back(metric);
  }
  return metrics;
}

Result<std::vector<double>> parse_percentiles(std::string_view list) {
  std::vector<double> percentiles;
  for (const std::string_view part : parts_of(list)) {
    const auto value = parse_number(part);
    if (!value || *value <= 0.0 || *value > 100.0) {
      return invalid_argument(
          fmt::format("a percentile is a number above 0 and at most 100, not '{}'", part));
    }
    if (std::find(percentiles.begin(), percentiles.end(), *value) != percentiles.end()) {
      return invalid_argument(fmt::format("a percentile is named twice: {}", part));
    }
    percentiles.push_back(*value);
  }
  return percentiles;
}

Result<GoodputLimit> parse_goodput_limit(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) {
    return invalid_argument(fmt::format("a goodput limit is METRIC:MILLISECONDS, not '{}'", text));
  }
  GIMBAL_ASSIGN_OR_RETURN(const Metric metric, parse_metric(text.substr(0, colon)));
  if (metric != Metric::kTtft && metric != Metric::kTpot && metric != Metric::kE2el) {
    return invalid_argument(
        fmt::format("a goodput limit is on ttft, tpot or e2el, not '{}'", text));
  }
  const auto ms = parse_number(text.substr(colon + 1));
  if (!ms || *ms < 0.0) {
    return invalid_argument(
        fmt::format("a goodput limit is a number of milliseconds, not '{}'", text));
  }
  return GoodputLimit{.metric = metric, .ms = *ms};
}

ServeResult summarize(std::span<const RequestRecord> records, std::span<const Duration> lags,
                      Duration duration, const ServeResultOptions& options) {
  GIMBAL_CHECK(duration > Duration{});
  ServeResult result;
  result.duration = duration;
  Records all;
  for (const RequestRecord& record : records)
    all.push_back(&record);
  const bool cached_known = std::any_of(
      records.begin(), records.end(),
      [](const RequestRecord& record) { return record.completed() && record.tells_cached; });
  const Run run{.duration = duration, .cached_known = cached_known, .options = options};
  result.all = group_result(all, run);
  result.classes = groups_by(records, &RequestRecord::traffic_class, run);
  result.users = groups_by(records, &RequestRecord::user, run);
  result.identity = check_identity(records);
  find_peaks(records, result);
  std::vector<double> late;
  for (const Duration lag : lags)
    late.push_back(to_ms(lag));
  result.lag_ms = Sample(std::move(late));
  const double p99 = result.lag_ms.percentile(99.0);
  if (options.unanswered > 0) {
    const auto answered = static_cast<std::int64_t>(records.size());
    result.invalid_reason = fmt::format("interrupted: {} of {} requests answered", answered,
                                        answered + options.unanswered);
  } else if (p99 > options.max_lag_p99_ms) {
    result.invalid_reason = fmt::format("requests were sent late: p99 {:.1f} ms, more than {:g} ms",
                                        p99, options.max_lag_p99_ms);
  } else if (!result.identity.holds()) {
    result.invalid_reason = fmt::format("E2E differs from TTFT + (n-1) TPOT by up to {:.3f} ms",
                                        result.identity.max_error_ms);
  }
  return result;
}

}  // namespace gimbal::report
