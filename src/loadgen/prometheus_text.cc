#include "loadgen/prometheus_text.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <functional>
#include <optional>

namespace gimbal::loadgen {
namespace {

std::string_view without_spaces(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

// Takes the text up to a space from the front.
std::string_view take_word(std::string_view& text) {
  text = without_spaces(text);
  const std::string_view word = text.substr(0, text.find_first_of(" \t"));
  text.remove_prefix(word.size());
  return word;
}

// Where the labels that begin at text[0] == '{' end, one past the brace.
std::optional<std::size_t> labels_end(std::string_view text) {
  bool quoted = false;
  for (std::size_t at = 1; at < text.size(); ++at) {
    if (quoted && text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      quoted = !quoted;
    } else if (!quoted && text[at] == '}') {
      return at + 1;
    }
  }
  return {};
}

std::optional<double> parse_value(std::string_view text) {
  if (text == "+Inf" || text == "-Inf" || text == "NaN") return HUGE_VAL;
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

class PageReader {
 public:
  Result<void> line(std::string_view text) {
    text = without_spaces(text);
    if (text.empty()) return {};
    if (text.front() == '#') {
      comment(text.substr(1));
      return {};
    }
    return sample(text);
  }

  MetricPage take() { return std::move(page_); }

 private:
  void comment(std::string_view text) {
    if (take_word(text) != "TYPE") return;
    const std::string_view name = take_word(text);
    types_.insert_or_assign(std::string(name), std::string(without_spaces(text)));
  }

  Result<void> sample(std::string_view text) {
    const std::string_view name = text.substr(0, text.find_first_of("{ \t"));
    std::size_t series_end = name.size();
    if (series_end < text.size() && text[series_end] == '{') {
      const auto end = labels_end(text.substr(series_end));
      if (!end) return invalid_argument("labels do not close");
      series_end += *end;
    }
    std::string_view rest = text.substr(series_end);
    const auto value = parse_value(take_word(rest));
    if (name.empty() || !value) {
      return invalid_argument("not a sample: " + std::string(text.substr(0, 60)));
    }
    if (auto* const values = values_of(name); values != nullptr && std::isfinite(*value)) {
      values->insert_or_assign(std::string(text.substr(0, series_end)), *value);
    }
    return {};
  }

  [[nodiscard]] std::string_view type_of(std::string_view name) const {
    const auto found = types_.find(name);
    return found == types_.end() ? std::string_view() : std::string_view(found->second);
  }

  std::map<std::string, double>* values_of(std::string_view name) {
    if (type_of(name) == "gauge") return &page_.gauges;
    if (type_of(name) == "counter") return &page_.counters;
    for (const std::string_view suffix : {"_sum", "_count", "_total"}) {
      if (!name.ends_with(suffix)) continue;
      const std::string_view type = type_of(name.substr(0, name.size() - suffix.size()));
      const bool rises =
          suffix == "_total" ? type == "counter" : type == "histogram" || type == "summary";
      if (rises) return &page_.counters;
    }
    return nullptr;
  }

  std::map<std::string, std::string, std::less<>> types_;
  MetricPage page_;
};

}  // namespace

Result<MetricPage> parse_prometheus_text(std::string_view text) {
  PageReader reader;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    const auto read = reader.line(text.substr(0, end));
    if (!read.ok()) return read.error().within(fmt::format("metrics, line {}", number));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return reader.take();
}

double counter_rise(const MetricPage& before, const std::string& series, double value) {
  const auto earlier = before.counters.find(series);
  const bool continued = earlier != before.counters.end() && earlier->second <= value;
  return continued ? value - earlier->second : value;
}

std::map<std::string, double> counter_rises(const MetricPage& before, const MetricPage& after) {
  std::map<std::string, double> rises;
  for (const auto& [series, value] : after.counters) {
    const double rise = counter_rise(before, series, value);
    if (rise > 0.0) rises.emplace(series, rise);
  }
  return rises;
}

}  // namespace gimbal::loadgen
