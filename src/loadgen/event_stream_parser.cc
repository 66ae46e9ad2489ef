#include "loadgen/event_stream_parser.h"

namespace gimbal::loadgen {

Result<void> EventStreamParser::put(std::string_view bytes,
                                    FunctionRef<void(std::string_view)> event) {
  while (!bytes.empty()) {
    const auto newline = bytes.find('\n');
    if (newline == std::string_view::npos) {
      line_ += bytes;
      bytes = {};
    } else if (line_.empty()) {
      handle_line(bytes.substr(0, newline), event);
      bytes.remove_prefix(newline + 1);
    } else {
      line_ += bytes.substr(0, newline);
      handle_line(line_, event);
      line_.clear();
      bytes.remove_prefix(newline + 1);
    }
    if (line_.size() + data_.size() > kMaxEventBytes) {
      return invalid_argument("event stream: an event is too long");
    }
  }
  return {};
}

void EventStreamParser::handle_line(std::string_view line,
                                    FunctionRef<void(std::string_view)> event) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) {  // the end of an event
    if (has_data_) event(data_);
    data_.clear();
    has_data_ = false;
    return;
  }
  constexpr std::string_view kData = "data";
  if (!line.starts_with(kData)) return;
  line.remove_prefix(kData.size());
  if (!line.empty() && line.front() != ':') return;  // a field whose name only begins like it
  if (!line.empty()) line.remove_prefix(1);
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (has_data_) data_ += '\n';
  data_ += line;
  has_data_ = true;
}

}  // namespace gimbal::loadgen
