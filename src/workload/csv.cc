#include "workload/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <utility>

namespace gimbal::workload {
namespace {

constexpr std::size_t kMaxFieldBytes = std::size_t{1} << 20;

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t") - first + 1));
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

std::string shown(std::string_view text) {
  return text.size() <= 60 ? std::string(text) : std::string(text.substr(0, 60)) + "…";
}

}  // namespace

Result<CsvReader> CsvReader::open(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  CsvReader reader(text);
  GIMBAL_ASSIGN_OR_RETURN(const bool found, reader.read_record());
  if (!found) return invalid_argument("there is no header line");
  reader.names_ = std::exchange(reader.row_, {});
  reader.header_line_ = reader.row_line_;
  for (std::size_t i = 0; i < reader.names_.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      if (!equal_ignoring_case(reader.names_[i], reader.names_[j])) continue;
      return invalid_argument(fmt::format("line {}: a column is there twice: {}",
                                          reader.header_line_, shown(reader.names_[i])));
    }
  }
  return reader;
}

bool CsvReader::has_column(std::string_view name) const {
  return std::any_of(names_.begin(), names_.end(), [&](const std::string& column_name) {
    return equal_ignoring_case(column_name, name);
  });
}

Result<std::size_t> CsvReader::column(std::string_view name) const {
  for (std::size_t i = 0; i < names_.size(); ++i) {
    if (equal_ignoring_case(names_[i], name)) return i;
  }
  return invalid_argument(fmt::format("line {}: there is no column {}", header_line_, name),
                          std::string(name));
}

Result<bool> CsvReader::next() {
  GIMBAL_ASSIGN_OR_RETURN(const bool found, read_record());
  if (!found) return false;
  // The first column that is missing, or too many.
  if (row_.size() != names_.size()) {
    const std::size_t fields = row_.size();
    row_.resize(std::min(fields, names_.size()));
    return broken(fmt::format("{}: the row has {} fields, the header has {}",
                              fields < names_.size() ? "is missing" : "is one too many", fields,
                              names_.size()));
  }
  return true;
}

Result<bool> CsvReader::read_record() {
  while (!rest_.empty()) {  // skips blank lines
    row_line_ = line_;
    row_.clear();
    bool last = false;
    while (!last) {
      GIMBAL_ASSIGN_OR_RETURN(std::string field, read_field(last));
      row_.push_back(std::move(field));
    }
    if (row_.size() > 1 || !row_.front().empty()) return true;
  }
  return false;
}

Result<std::string> CsvReader::read_field(bool& last) {
  std::string field;
  const bool quoted = rest_.starts_with('"');
  if (quoted) {
    rest_.remove_prefix(1);
    while (true) {
      const auto quote = rest_.find('"');
      if (quote == std::string_view::npos) {
        return broken("a quote does not close");
      }
      field += rest_.substr(0, quote);
      rest_.remove_prefix(quote + 1);
      if (!rest_.starts_with('"')) break;
      field += '"';
      rest_.remove_prefix(1);
    }
    line_ += static_cast<std::size_t>(std::count(field.begin(), field.end(), '\n'));
  }
  const auto end = rest_.find_first_of(",\n");
  std::string_view bare = rest_.substr(0, end);
  last = end == std::string_view::npos || rest_[end] == '\n';
  if (last) ++line_;
  rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
  if (bare.ends_with('\r')) bare.remove_suffix(1);
  if (bare.find('"') != std::string_view::npos || (quoted && !trimmed(bare).empty())) {
    return broken("a quote inside a field");
  }
  field += bare;
  if (field.size() > kMaxFieldBytes) {
    return broken(fmt::format("a field is longer than {} bytes", kMaxFieldBytes));
  }
  return trimmed(field);
}

// An error about the field that is being read; before the header is, columns have numbers.
Error CsvReader::broken(std::string_view what) const {
  const std::size_t column = row_.size();
  if (column < names_.size()) {
    return invalid_argument(
        fmt::format("line {}, column {}: {}", row_line_, shown(names_[column]), what),
        names_[column]);
  }
  return invalid_argument(fmt::format("line {}, column {}: {}", row_line_, column + 1, what));
}

Error CsvReader::wrong(std::size_t column, std::string_view expected) const {
  return invalid_argument(fmt::format("line {}, column {}: must be {}, is '{}'", row_line_,
                                      shown(names_[column]), expected, shown(row_[column])),
                          names_[column]);
}

Result<std::int64_t> CsvReader::integer(std::size_t column, std::int64_t low,
                                        std::int64_t high) const {
  GIMBAL_ASSIGN_OR_RETURN(const double value,
                          number(column, static_cast<double>(low), static_cast<double>(high)));
  if (std::nearbyint(value) != value) {
    return wrong(column, fmt::format("an integer from {} to {}", low, high));
  }
  return static_cast<std::int64_t>(value);
}

Result<double> CsvReader::number(std::size_t column, double low, double high) const {
  const std::string& text = row_[column];
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || !(value >= low && value <= high)) {
    return wrong(column, fmt::format("a number from {:g} to {:g}", low, high));
  }
  return value;
}

}  // namespace gimbal::workload
