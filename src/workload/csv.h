#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace gimbal::workload {

// Reads CSV text with a header line: RFC 4180 quotes, LF or CRLF, a byte order mark, blank lines.
// Columns are asked for by name, whatever their order and case. Errors name line (from 1) and
// column. One thread; refers to the text, which must outlive it.
class CsvReader {
 public:
  // Errors: no header, a column twice.
  [[nodiscard]] static Result<CsvReader> open(std::string_view text);

  [[nodiscard]] bool has_column(std::string_view name) const;
  // The column's index, for the calls below. Error: it is not there.
  [[nodiscard]] Result<std::size_t> column(std::string_view name) const;

  // Goes to the next row that is not blank; false at the end. Error: quotes that do not close, or
  // another number of fields than the header has: the column is the first missing or extra one.
  [[nodiscard]] Result<bool> next();

  // Of the row that next() went to.
  [[nodiscard]] std::size_t line() const { return row_line_; }
  [[nodiscard]] std::string_view text(std::size_t column) const { return row_[column]; }
  [[nodiscard]] Result<std::int64_t> integer(std::size_t column, std::int64_t low,
                                             std::int64_t high) const;
  [[nodiscard]] Result<double> number(std::size_t column, double low, double high) const;
  // An error about a field: "line 7, column ContextTokens: must be EXPECTED, is 'value'".
  [[nodiscard]] Error wrong(std::size_t column, std::string_view expected) const;

 private:
  explicit CsvReader(std::string_view text) : rest_(text) {}
  // Reads one record into row_; false at the end of the text.
  Result<bool> read_record();
  Result<std::string> read_field(bool& last);
  [[nodiscard]] Error broken(std::string_view what) const;

  std::string_view rest_;
  std::size_t line_ = 1;      // of the start of rest_
  std::size_t row_line_ = 0;  // of the start of row_
  std::size_t header_line_ = 1;
  std::vector<std::string> names_;
  std::vector<std::string> row_;
};

}  // namespace gimbal::workload
