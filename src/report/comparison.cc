#include "report/comparison.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>
#include <set>

#include "base/check.h"

namespace gimbal::report {
namespace {

// "p99_ttft_ms" taken apart.
struct LatencyField {
  Metric metric = Metric::kTtft;
  std::optional<double> percentile;  // absent: the mean
};

std::optional<LatencyField> latency_field(std::string_view name) {
  const auto first = name.find('_');
  if (first == std::string_view::npos || !name.ends_with("_ms")) return {};
  const std::string_view statistic = name.substr(0, first);
  const auto metric = parse_metric(name.substr(first + 1, name.size() - first - 4));
  if (!metric.ok()) return {};
  LatencyField field{.metric = *metric, .percentile = {}};
  if (statistic == "mean") return field;
  if (statistic == "median") {
    field.percentile = 50.0;
    return field;
  }
  double p = 0.0;
  const auto [end, error] =
      std::from_chars(statistic.data() + 1, statistic.data() + statistic.size(), p);
  const bool whole = end == statistic.data() + statistic.size();
  if (!statistic.starts_with('p') || error != std::errc() || !whole || p < 0.0 || p > 100.0) {
    return {};
  }
  field.percentile = p;
  return field;
}

// Each completed request's value; empty for ITL, which has many a request.
std::vector<double> request_values(const SavedResult& result, Metric metric) {
  std::vector<double> values;
  for (const RequestRecord& record : result.records) {
    if (!record.completed()) continue;
    if (metric == Metric::kTtft) values.push_back(to_ms(record.ttft));
    if (metric == Metric::kE2el) values.push_back(to_ms(record.e2e));
    if (metric == Metric::kTpot && record.output_tokens > 1) values.push_back(record.tpot_ms());
    if (metric == Metric::kTtftContent && record.ttft_content > Duration{}) {
      values.push_back(to_ms(record.ttft_content));
    }
  }
  return values;
}

// As Sample::percentile, without sorting: this is called thousands of times.
double percentile_of(std::vector<double>& values, double p) {
  const double place = p / 100.0 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(place);
  const auto middle = values.begin() + below;
  std::nth_element(values.begin(), middle, values.end());
  if (middle + 1 == values.end()) return *middle;
  const double above = *std::min_element(middle + 1, values.end());
  return std::lerp(*middle, above, place - static_cast<double>(below));
}

double mean_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double value_of(const LatencyField& field, std::span<const double> values,
                std::vector<double>& scratch) {
  if (!field.percentile) return mean_of(values);
  scratch.assign(values.begin(), values.end());
  return percentile_of(scratch, *field.percentile);
}

// The seeds of a side, where each run has one of its own.
std::optional<std::set<double>> seeds_of(const ComparedSide& side) {
  std::set<double> seeds;
  for (const SavedResult& result : side.results) {
    const auto seed = result.number("seed");
    if (!seed || !seeds.insert(*seed).second) return {};
  }
  return seeds;
}

std::vector<std::string> paths_without(const std::string& field, const ComparedSide& base,
                                       const ComparedSide& changed) {
  std::vector<std::string> paths;
  for (const ComparedSide* side : {&base, &changed}) {
    for (const SavedResult& result : side->results) {
      if (!result.number(field)) paths.push_back(result.path);
    }
  }
  return paths;
}

std::optional<std::vector<double>> run_values(const ComparedSide& side, const std::string& field) {
  std::vector<double> values;
  for (const SavedResult& result : side.results) {
    const auto value = result.number(field);
    if (!value) return {};
    values.push_back(*value);
  }
  return values;
}

ComparedSide sorted_by_seed(ComparedSide side) {
  std::stable_sort(side.results.begin(), side.results.end(),
                   [](const SavedResult& a, const SavedResult& b) {
                     return a.number("seed").value_or(0.0) < b.number("seed").value_or(0.0);
                   });
  return side;
}

class Comparison {
 public:
  Comparison(const ComparedSide& base, const ComparedSide& changed,
             const ComparisonOptions& options)
      : kind_(comparison_kind(base, changed)),
        base_(kind_ == ComparisonKind::kPairedRuns ? sorted_by_seed(base) : base),
        changed_(kind_ == ComparisonKind::kPairedRuns ? sorted_by_seed(changed) : changed),
        options_(options) {}

  Table table() const {
    Table table({"metric", base_.name, changed_.name, "change"});
    for (const std::string& field : fields()) {
      if (auto row = row_of(field)) table.add_row(std::move(*row));
    }
    return table;
  }

  std::vector<std::string> fields() const {
    return options_.fields.empty() ? default_fields() : options_.fields;
  }
  // Name, base, changed, change.
  std::optional<std::vector<Cell>> row_of(const std::string& field) const;
  std::vector<std::string> notes() const;

 private:
  // Whether pairs of runs have no ratio that could be averaged.
  bool has_no_pairs(const std::vector<double>& base) const;
  std::vector<std::string> default_fields() const;
  std::optional<std::vector<Cell>> request_row(const std::string& field) const;
  std::vector<Cell> run_row(const std::string& field, const std::vector<double>& base,
                            const std::vector<double>& changed) const;

  ComparisonKind kind_;
  ComparedSide base_;
  ComparedSide changed_;
  const ComparisonOptions& options_;
};

std::vector<std::string> Comparison::default_fields() const {
  std::vector<std::string> fields{"request_throughput", "output_throughput",
                                  "total_token_throughput", "request_goodput"};
  std::vector<std::string> prefixes{""};
  const auto& classes = base_.results.front().fields.find("classes");
  if (classes != base_.results.front().fields.end() && classes->is_object()) {
    for (const auto& [name, group] : classes->items()) {
      prefixes.push_back("classes." + name + ".");
    }
  }
  for (const std::string& prefix : prefixes) {
    for (const Metric metric : {Metric::kTtft, Metric::kTpot, Metric::kItl, Metric::kE2el}) {
      for (const char* statistic : {"mean", "median", "p99"}) {
        fields.push_back(fmt::format("{}{}_{}_ms", prefix, statistic, to_string(metric)));
      }
    }
  }
  return fields;
}

std::optional<std::vector<Cell>> Comparison::row_of(const std::string& field) const {
  const auto base = run_values(base_, field);
  const auto changed = run_values(changed_, field);
  if (!base || !changed) return {};
  if (kind_ == ComparisonKind::kRequests) {
    if (auto row = request_row(field)) return row;
  }
  return run_row(field, *base, *changed);
}

std::optional<std::vector<Cell>> Comparison::request_row(const std::string& field) const {
  const auto latency = latency_field(field);
  if (!latency) return {};
  const auto base = request_values(base_.results.front(), latency->metric);
  const auto changed = request_values(changed_.results.front(), latency->metric);
  if (base.empty() || changed.empty()) return {};
  std::vector<double> scratch;
  const auto statistic = [&](std::span<const double> values) {
    return value_of(*latency, values, scratch);
  };
  const bool has_ratio = statistic(base) != 0.0;
  return std::vector<Cell>{
      Cell::of_text(field), Cell::of_interval(bootstrap(base, statistic, options_.bootstrap)),
      Cell::of_interval(bootstrap(changed, statistic, options_.bootstrap)),
      has_ratio ? Cell::of_change(bootstrap_ratio(base, changed, statistic, options_.bootstrap))
                : Cell::absent()};
}

std::vector<Cell> Comparison::run_row(const std::string& field, const std::vector<double>& base,
                                      const std::vector<double>& changed) const {
  const auto value = [&](const std::vector<double>& values) {
    return values.size() == 1 ? Cell::of_number(values.front())
                              : Cell::of_interval(bootstrap_mean(values, options_.bootstrap));
  };
  std::vector<Cell> row{Cell::of_text(field), value(base), value(changed)};
  if (kind_ == ComparisonKind::kPairedRuns && !has_no_pairs(base)) {
    row.push_back(Cell::of_change(bootstrap_paired_ratio(base, changed, options_.bootstrap)));
  } else if (mean_of(base) == 0.0) {
    row.push_back(Cell::absent());
  } else if (base.size() == 1 && changed.size() == 1) {
    row.push_back(Cell::of_change(changed.front() / base.front()));
  } else {
    const auto mean = [](std::span<const double> values) { return mean_of(values); };
    row.push_back(Cell::of_change(bootstrap_ratio(base, changed, mean, options_.bootstrap)));
  }
  return row;
}

bool Comparison::has_no_pairs(const std::vector<double>& base) const {
  return std::find(base.begin(), base.end(), 0.0) != base.end();
}

std::vector<std::string> Comparison::notes() const {
  std::vector<std::string> notes;
  std::vector<std::string> unpaired;
  for (const std::string& field : fields()) {
    const auto lacking = paths_without(field, base_, changed_);
    const std::size_t runs = base_.results.size() + changed_.results.size();
    // Of the default fields, those that no result has are no loss.
    if (lacking.size() == runs && options_.fields.empty()) continue;
    if (!lacking.empty()) {
      std::string more;
      if (lacking.size() > 1) more = fmt::format(" and {} more", lacking.size() - 1);
      notes.push_back(fmt::format("{} is left out: {}{} of {} results lack it.", field,
                                  lacking.front(), more, runs));
    } else if (kind_ == ComparisonKind::kPairedRuns && has_no_pairs(*run_values(base_, field)) &&
               mean_of(*run_values(base_, field)) != 0.0) {
      unpaired.push_back(field);
    }
  }
  if (!unpaired.empty()) {
    notes.push_back(
        fmt::format("A run of {} has 0 for {}: there the change is the ratio of the means, "
                    "each side resampled on its own.",
                    base_.name, fmt::join(unpaired, ", ")));
  }
  return notes;
}

}  // namespace

ComparisonKind comparison_kind(const ComparedSide& base, const ComparedSide& changed) {
  GIMBAL_CHECK(!base.results.empty() && !changed.results.empty());
  if (base.results.size() == 1 && changed.results.size() == 1) {
    const bool details =
        !base.results.front().records.empty() && !changed.results.front().records.empty();
    return details ? ComparisonKind::kRequests : ComparisonKind::kNumbers;
  }
  const auto seeds = seeds_of(base);
  return seeds && seeds == seeds_of(changed) ? ComparisonKind::kPairedRuns
                                             : ComparisonKind::kUnpairedRuns;
}

std::string describe(ComparisonKind kind) {
  switch (kind) {
    case ComparisonKind::kPairedRuns:
      return "Means over runs; change: mean of the ratios of runs with the same seed. Brackets: "
             "bootstrap intervals over runs.";
    case ComparisonKind::kUnpairedRuns:
      return "Means over runs; change: ratio of the means. Brackets: bootstrap intervals over "
             "runs.";
    case ComparisonKind::kRequests:
      return "One run each. Brackets, of latencies that a request has one of: bootstrap intervals "
             "over its requests, which understate the spread between runs.";
    case ComparisonKind::kNumbers:
      return "One run each, without details: no intervals.";
  }
  return "";
}

Result<void> check_fields(const ComparedSide& base, std::span<const ComparedSide> changed,
                          const ComparisonOptions& options) {
  const auto has = [](const ComparedSide& side, const std::string& field) {
    return std::any_of(side.results.begin(), side.results.end(),
                       [&](const SavedResult& result) { return result.number(field).has_value(); });
  };
  for (const std::string& field : options.fields) {
    if (has(base, field)) continue;
    const bool found = std::any_of(changed.begin(), changed.end(),
                                   [&](const ComparedSide& side) { return has(side, field); });
    if (!found) return invalid_argument("no result has a number " + field, field);
  }
  return {};
}

std::vector<std::string> notes(const ComparedSide& base, const ComparedSide& changed,
                               const ComparisonOptions& options) {
  return Comparison(base, changed, options).notes();
}

Table compare(const ComparedSide& base, const ComparedSide& changed,
              const ComparisonOptions& options) {
  return Comparison(base, changed, options).table();
}

Table compare_all(const ComparedSide& base, std::span<const ComparedSide> changed,
                  const ComparisonOptions& options) {
  GIMBAL_CHECK(!changed.empty());
  std::vector<std::string> columns{"metric", base.name};
  std::vector<Comparison> comparisons;
  for (const ComparedSide& side : changed) {
    columns.push_back(side.name);
    columns.push_back(side.name + " change");
    comparisons.emplace_back(base, side, options);
  }
  Table table(std::move(columns));
  for (const std::string& field : comparisons.front().fields()) {
    std::vector<Cell> row{Cell::of_text(field), Cell::absent()};
    bool found = false;
    for (const Comparison& comparison : comparisons) {
      const auto part = comparison.row_of(field);
      if (part) row[1] = (*part)[1];
      found = found || part.has_value();
      row.push_back(part ? (*part)[2] : Cell::absent());
      row.push_back(part ? (*part)[3] : Cell::absent());
    }
    if (found) table.add_row(std::move(row));
  }
  return table;
}

}  // namespace gimbal::report
