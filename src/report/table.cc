#include "report/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace gimbal::report {
namespace {

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' || c == '\r' ? ' ' : c;
  }
  return out;
}

// Characters as they stand on a terminal: UTF-8 bytes that continue one do not count.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string percent(double ratio) {
  const double change = (ratio - 1.0) * 100.0;
  // No "−0.0 %".
  return fmt::format("{}{:.1f} %", std::abs(change) < 0.05 ? "" : (change < 0 ? "−" : "+"),
                     std::abs(change));
}

nlohmann::json json_of(const Interval& interval) {
  return {{"estimate", interval.estimate}, {"low", interval.low}, {"high", interval.high}};
}

}  // namespace

Cell Cell::of_text(std::string text) {
  nlohmann::json value = text;
  return {.text = std::move(text), .value = std::move(value), .is_number = false};
}

Cell Cell::of_count(std::int64_t count) {
  return {.text = fmt::format("{}", count), .value = count, .is_number = true};
}

Cell Cell::of_number(double value, int decimals) {
  return {.text = fmt::format("{:.{}f}", value, decimals), .value = value, .is_number = true};
}

Cell Cell::of_interval(const Interval& interval, int decimals) {
  return {.text = fmt::format("{:.{}f} [{:.{}f}, {:.{}f}]", interval.estimate, decimals,
                              interval.low, decimals, interval.high, decimals),
          .value = json_of(interval),
          .is_number = true};
}

Cell Cell::of_change(double ratio) {
  return {.text = percent(ratio), .value = ratio, .is_number = true};
}

Cell Cell::of_change(const Interval& ratio) {
  return {.text = fmt::format("{} [{}, {}]", percent(ratio.estimate), percent(ratio.low),
                              percent(ratio.high)),
          .value = json_of(ratio),
          .is_number = true};
}

Cell Cell::absent() {
  return {.text = "–", .value = nullptr, .is_number = true};
}

void Table::add_row(std::vector<Cell> row) {
  GIMBAL_CHECK(row.size() == columns_.size());
  rows_.push_back(std::move(row));
}

std::string Table::to_markdown() const {
  std::vector<std::size_t> widths;
  std::vector<bool> right;
  for (std::size_t column = 0; column < columns_.size(); ++column) {
    std::size_t width = std::max<std::size_t>(3, width_of(escaped(columns_[column])));
    bool numbers = !rows_.empty();
    for (const auto& row : rows_) {
      width = std::max(width, width_of(escaped(row[column].text)));
      numbers = numbers && row[column].is_number;
    }
    widths.push_back(width);
    right.push_back(numbers);
  }
  const auto padded = [&](const std::string& text, std::size_t column) {
    const std::string spaces(widths[column] - width_of(text), ' ');
    return right[column] ? spaces + text : text + spaces;
  };
  std::string out = "|";
  for (std::size_t column = 0; column < columns_.size(); ++column) {
    out += " " + padded(escaped(columns_[column]), column) + " |";
  }
  out += "\n|";
  for (std::size_t column = 0; column < columns_.size(); ++column) {
    out += std::string(widths[column] + 1, '-') + (right[column] ? ":|" : "-|");
  }
  out += "\n";
  for (const auto& row : rows_) {
    out += "|";
    for (std::size_t column = 0; column < columns_.size(); ++column) {
      out += " " + padded(escaped(row[column].text), column) + " |";
    }
    out += "\n";
  }
  return out;
}

nlohmann::json Table::to_json() const {
  nlohmann::json rows = nlohmann::json::array();
  for (const auto& row : rows_) {
    nlohmann::json object = nlohmann::json::object();
    for (std::size_t column = 0; column < columns_.size(); ++column) {
      object[columns_[column]] = row[column].value;
    }
    rows.push_back(std::move(object));
  }
  return rows;
}

}  // namespace gimbal::report
