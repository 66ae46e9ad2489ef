#include "sim/request_log.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "base/check.h"

namespace gimbal::sim {
namespace {

using report::Metric;

std::size_t second_of(Duration time) {
  return static_cast<std::size_t>(std::chrono::duration_cast<std::chrono::seconds>(time).count());
}

double tpot_ms(const RequestEntry& entry) {
  return entry.output_tokens < 2
             ? 0.0
             : to_ms(entry.last - entry.first) / static_cast<double>(entry.output_tokens - 1);
}

bool is_good(const RequestEntry& entry, const std::vector<report::GoodputLimit>& limits) {
  return std::all_of(limits.begin(), limits.end(), [&](const report::GoodputLimit& limit) {
    const double ms = limit.metric == Metric::kTtft   ? to_ms(entry.first - entry.arrival)
                      : limit.metric == Metric::kTpot ? tpot_ms(entry)
                                                      : to_ms(entry.last - entry.arrival);
    return ms <= limit.ms;
  });
}

}  // namespace

RequestLog::RequestLog(const workload::Workload& workload, std::size_t most_gaps) {
  entries_.reserve(workload.requests.size());
  std::int64_t tokens = 0;
  if (!workload.requests.empty()) first_ = workload.requests.front().arrival;
  for (const workload::RequestSpec& request : workload.requests) {
    first_ = std::min(first_, request.arrival);
    RequestEntry& entry = entries_.emplace_back();
    entry.arrival = request.arrival;
    entry.prompt_tokens = static_cast<std::int32_t>(request.prompt_tokens());
    entry.traffic_class = request.traffic_class;
    tokens += request.output_tokens;
  }
  first_second_ = second_of(first_);
  const auto most = static_cast<std::int64_t>(std::max<std::size_t>(1, most_gaps));
  stride_ = static_cast<std::size_t>((tokens + most - 1) / most);
  stride_ = std::max<std::size_t>(1, stride_);
  gaps_.resize(entries_.size() / stride_ + 1);
}

void RequestLog::note_token(std::size_t index, Duration now) {
  RequestEntry& entry = entries_[index];
  if (entry.output_tokens == 0) {
    entry.first = now;
  } else if (index % stride_ == 0) {
    gaps_[index / stride_].push_back(static_cast<float>(to_ms(now - entry.last)));
  }
  entry.last = now;
  ++entry.output_tokens;
  const std::size_t second = second_of(now) - first_second_;
  if (second >= tokens_.size()) tokens_.resize(second + 1);
  ++tokens_[second];
}

void RequestLog::note_end(std::size_t index, RequestEnd end) {
  RequestEntry& entry = entries_[index];
  entry.end = end;
  ++entry.ends;
  ++ended_;
}

std::array<std::int64_t, kRequestEnds> RequestLog::counts() const {
  std::array<std::int64_t, kRequestEnds> counts{};
  for (const RequestEntry& entry : entries_)
    ++counts[static_cast<std::size_t>(entry.end)];
  return counts;
}

Duration RequestLog::duration() const {
  Duration last{};
  for (const RequestEntry& entry : entries_) {
    if (entry.end == RequestEnd::kCompleted) last = std::max(last, entry.last);
  }
  return std::max(last - first_, Duration{1});  // where a profile says that nothing takes time
}

void RequestLog::add_group(report::GroupResult& group, const workload::TrafficClass* only,
                           double seconds, const report::ServeResultOptions& options) const {
  std::vector<double> ttft;
  std::vector<double> tpot;
  std::vector<double> e2e;
  std::vector<double> itl;
  std::int64_t good = 0;
  group.cached_known = true;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const RequestEntry& entry = entries_[i];
    if (only != nullptr && entry.traffic_class != *only) continue;
    if (entry.end != RequestEnd::kCompleted) {
      ++group.failed;
      continue;
    }
    ++group.completed;
    group.total_input_tokens += entry.prompt_tokens;
    group.total_output_tokens += entry.output_tokens;
    group.total_cached_tokens += entry.cached_tokens;
    ttft.push_back(to_ms(entry.first - entry.arrival));
    e2e.push_back(to_ms(entry.last - entry.arrival));
    if (entry.output_tokens > 1) tpot.push_back(tpot_ms(entry));
    if (i % stride_ == 0)
      itl.insert(itl.end(), gaps_[i / stride_].begin(), gaps_[i / stride_].end());
    good += is_good(entry, options.goodput) ? 1 : 0;
  }
  const auto rate = [seconds](std::int64_t count) { return static_cast<double>(count) / seconds; };
  group.request_throughput = rate(group.completed);
  group.output_throughput = rate(group.total_output_tokens);
  group.total_token_throughput = rate(group.total_input_tokens + group.total_output_tokens);
  if (!options.goodput.empty()) group.request_goodput = rate(good);
  const auto set = [&group](Metric metric, std::vector<double>& values) {
    group.latencies[static_cast<std::size_t>(metric)] = report::Sample(std::move(values));
  };
  set(Metric::kTtft, ttft);
  set(Metric::kTpot, tpot);
  set(Metric::kE2el, e2e);
  set(Metric::kItl, itl);
}

// Tokens and running requests of the busiest second, by whole seconds as vLLM counts them.
void RequestLog::find_peaks(report::ServeResult& result) const {
  for (const std::uint32_t tokens : tokens_) {
    result.max_output_tokens_per_s =
        std::max(result.max_output_tokens_per_s, static_cast<double>(tokens));
  }
  std::vector<std::int64_t> change(tokens_.size() + 2);
  for (const RequestEntry& entry : entries_) {
    if (entry.end != RequestEnd::kCompleted) continue;
    ++change[second_of(entry.arrival) - first_second_];
    --change[second_of(entry.last) - first_second_ + 1];
  }
  std::int64_t running = 0;
  for (const std::int64_t each : change) {
    running += each;
    result.max_concurrent_requests = std::max(result.max_concurrent_requests, running);
  }
}

report::ServeResult RequestLog::summarize(const report::ServeResultOptions& options) const {
  report::ServeResult result;
  GIMBAL_CHECK(counts()[static_cast<std::size_t>(RequestEnd::kCompleted)] > 0);
  result.duration = duration();
  const double seconds = to_ms(result.duration) * 1e-3;
  add_group(result.all, nullptr, seconds, options);
  for (const workload::TrafficClass each :
       {workload::TrafficClass::kLatencySensitive, workload::TrafficClass::kBestEffort}) {
    const bool any = std::any_of(entries_.begin(), entries_.end(),
                                 [each](const auto& entry) { return entry.traffic_class == each; });
    if (any) add_group(result.classes[std::string(to_string(each))], &each, seconds, options);
  }
  find_peaks(result);
  result.identity.requests = result.all.completed;
  for (std::size_t i = 0; i < entries_.size(); i += stride_) {
    const RequestEntry& entry = entries_[i];
    if (entry.end != RequestEnd::kCompleted) continue;
    const std::vector<float>& gaps = gaps_[i / stride_];
    result.identity.uneven_chunks +=
        static_cast<std::int32_t>(gaps.size()) + 1 != entry.output_tokens ? 1 : 0;
  }
  return result;
}

}  // namespace gimbal::sim
