#include "loadgen/http_response_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "loadgen/http_text.h"

namespace gimbal::loadgen {
namespace {

std::string shown(std::string_view text) {
  std::string out(text.substr(0, 60));
  std::replace_if(
      out.begin(), out.end(), [](unsigned char c) { return c < ' ' || c > '~'; }, '?');
  return out;
}

Error wrong(std::string_view what, std::string_view text) {
  return invalid_argument(fmt::format("HTTP answer: {}: {}", what, shown(text)));
}

// Whether a field that is a list of words has this one.
bool lists(std::string_view value, std::string_view word) {
  while (!value.empty()) {
    const auto comma = value.find(',');
    if (equal_ignoring_case(trimmed(value.substr(0, comma)), word)) return true;
    value.remove_prefix(comma == std::string_view::npos ? value.size() : comma + 1);
  }
  return false;
}

bool parse_whole(std::string_view text, int base, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

Result<std::size_t> HttpResponseParser::put(std::string_view bytes, std::string& body) {
  const std::size_t given = bytes.size();
  while (!bytes.empty() && state_ != State::kDone) {
    if (state_ == State::kLengthBody || state_ == State::kCloseBody ||
        state_ == State::kChunkData) {
      take_body(bytes, body);
      continue;
    }
    const bool in_head =
        state_ == State::kStatusLine || state_ == State::kFields || state_ == State::kTrailers;
    GIMBAL_ASSIGN_OR_RETURN(const bool whole,
                            take_line(bytes, in_head ? kMaxHeadBytes : kMaxChunkLineBytes));
    if (!whole) break;
    GIMBAL_RETURN_IF_ERROR(handle_line());
    line_.clear();
  }
  return given - bytes.size();
}

Result<void> HttpResponseParser::end() {
  if (state_ == State::kCloseBody) state_ = State::kDone;
  if (done()) return {};
  return Error{ErrorCode::kUnavailable, "the server closed the connection within an answer"};
}

Result<bool> HttpResponseParser::take_line(std::string_view& bytes, std::size_t bound) {
  const auto newline = bytes.find('\n');
  const std::size_t count = newline == std::string_view::npos ? bytes.size() : newline + 1;
  line_ += bytes.substr(0, count);
  bytes.remove_prefix(count);
  const bool in_head = bound == kMaxHeadBytes;
  if (in_head) head_bytes_ += count;
  if ((in_head ? head_bytes_ : line_.size()) > bound) {
    return wrong("its head or a line is too long", line_);
  }
  if (newline == std::string_view::npos) return false;
  line_.pop_back();
  if (line_.ends_with('\r')) line_.pop_back();
  return true;
}

void HttpResponseParser::take_body(std::string_view& bytes, std::string& body) {
  std::size_t count = bytes.size();
  if (state_ != State::kCloseBody) {
    count = static_cast<std::size_t>(std::min<std::uint64_t>(count, left_));
    left_ -= count;
  }
  body += bytes.substr(0, count);
  bytes.remove_prefix(count);
  if (state_ == State::kLengthBody && left_ == 0) state_ = State::kDone;
  if (state_ == State::kChunkData && left_ == 0) state_ = State::kChunkEnd;
}

Result<void> HttpResponseParser::handle_line() {
  switch (state_) {
    case State::kStatusLine:
      return handle_status_line();
    case State::kFields:
      return line_.empty() ? handle_head_end() : handle_field();
    case State::kChunkLine:
      return handle_chunk_line();
    case State::kChunkEnd:
      if (!line_.empty()) return wrong("a chunk is longer than it said", line_);
      state_ = State::kChunkLine;
      return {};
    case State::kTrailers:
      if (line_.empty()) state_ = State::kDone;
      return {};
    case State::kLengthBody:
    case State::kCloseBody:
    case State::kChunkData:
    case State::kDone:
      break;
  }
  return {};
}

Result<void> HttpResponseParser::handle_status_line() {
  const std::string_view line = line_;
  const bool minor = line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 ");
  std::uint64_t status = 0;
  if (!minor || line.size() < 12 || !parse_whole(line.substr(9, 3), 10, status) || status < 100 ||
      status > 599 || (line.size() > 12 && line[12] != ' ')) {
    return wrong("no status line", line);
  }
  keep_alive_ = line[7] == '1';
  status_ = static_cast<int>(status);
  state_ = State::kFields;
  return {};
}

Result<void> HttpResponseParser::handle_field() {
  const std::string_view line = line_;
  const auto colon = line.find(':');
  const std::string_view name = line.substr(0, colon);
  const bool named = colon != std::string_view::npos && !name.empty() &&
                     name.find_first_of(" \t") == std::string_view::npos;
  if (!named) return wrong("not a header field", line);
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (equal_ignoring_case(name, "Content-Length")) {
    std::uint64_t length = 0;
    if (!parse_whole(value, 10, length) || (has_length_ && length != left_)) {
      return wrong("not a Content-Length", value);
    }
    has_length_ = true;
    left_ = length;
  } else if (equal_ignoring_case(name, "Transfer-Encoding")) {
    if (!equal_ignoring_case(value, "chunked") || chunked_) {
      return wrong("a transfer coding that this client does not have", value);
    }
    chunked_ = true;
  } else if (equal_ignoring_case(name, "Content-Encoding")) {
    if (!equal_ignoring_case(value, "identity")) {
      return wrong("a content coding that this client does not have", value);
    }
  } else if (equal_ignoring_case(name, "Connection")) {
    if (lists(value, "close")) keep_alive_ = false;
    if (lists(value, "keep-alive")) keep_alive_ = true;
  }
  return {};
}

Result<void> HttpResponseParser::handle_head_end() {
  if (status_ < 200) {  // an interim answer; the real one follows
    *this = HttpResponseParser();
    return {};
  }
  if (chunked_ && has_length_) return wrong("it has a length beside chunks", "");
  head_bytes_ = 0;
  if (status_ == 204 || status_ == 304) {
    state_ = State::kDone;
  } else if (chunked_) {
    state_ = State::kChunkLine;
  } else if (has_length_) {
    state_ = left_ == 0 ? State::kDone : State::kLengthBody;
  } else {
    keep_alive_ = false;
    state_ = State::kCloseBody;
  }
  return {};
}

Result<void> HttpResponseParser::handle_chunk_line() {
  std::string_view size = line_;
  size = trimmed(size.substr(0, size.find(';')));
  if (size.empty() || !parse_whole(size, 16, left_) ||
      left_ > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return wrong("not a chunk size", line_);
  }
  state_ = left_ == 0 ? State::kTrailers : State::kChunkData;
  return {};
}

}  // namespace gimbal::loadgen
