#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "report/bootstrap.h"

namespace gimbal::report {

// One entry of a table: what a person reads, and the value behind it.
struct Cell {
  std::string text;
  nlohmann::json value;
  bool is_number = false;  // numbers stand at the right

  [[nodiscard]] static Cell of_text(std::string text);
  [[nodiscard]] static Cell of_count(std::int64_t count);
  // `decimals` places after the point.
  [[nodiscard]] static Cell of_number(double value, int decimals = 2);
  // "estimate [low, high]"; the value is an object of the three.
  [[nodiscard]] static Cell of_interval(const Interval& interval, int decimals = 2);
  // A ratio as a change in percent: 0.7 → "−30.0 %"; the value is the ratio itself.
  [[nodiscard]] static Cell of_change(double ratio);
  [[nodiscard]] static Cell of_change(const Interval& ratio);
  // "–", null.
  [[nodiscard]] static Cell absent();
};

// Rows under named columns, written as Markdown and as JSON. Value type.
class Table {
 public:
  // `columns` are also the keys of the JSON objects.
  explicit Table(std::vector<std::string> columns) : columns_(std::move(columns)) {}

  // Requires: as many cells as columns.
  void add_row(std::vector<Cell> row);
  [[nodiscard]] std::size_t rows() const { return rows_.size(); }

  // A pipe table, padded so that it can be read as it is. A '|' in a text is escaped, and line ends
  // become spaces. A column is aligned right when all its cells are numbers or absent.
  [[nodiscard]] std::string to_markdown() const;
  // A list of one object a row.
  [[nodiscard]] nlohmann::json to_json() const;

 private:
  std::vector<std::string> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace gimbal::report
