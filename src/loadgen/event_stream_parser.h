#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/function_ref.h"
#include "base/result.h"

namespace gimbal::loadgen {

// Reads server-sent events from bytes as they come: the `data` of each event, its lines joined by
// line ends. Other fields and comments are skipped. Lines end with LF or CR LF. One thread; value
// type.
class EventStreamParser {
 public:
  static constexpr std::size_t kMaxEventBytes = std::size_t{16} << 20;

  // Calls `event` with the data of each event that is now whole; it lives for the call only.
  // Error: an event beyond the bound.
  [[nodiscard]] Result<void> put(std::string_view bytes, FunctionRef<void(std::string_view)> event);

 private:
  void handle_line(std::string_view line, FunctionRef<void(std::string_view)> event);

  std::string line_;  // the beginning of a line whose end has not come
  std::string data_;
  bool has_data_ = false;
};

}  // namespace gimbal::loadgen
