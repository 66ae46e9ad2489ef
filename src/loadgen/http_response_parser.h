#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace gimbal::loadgen {

// Reads one HTTP/1.1 response from bytes as they come: status line, header fields, and a body that
// is chunked, of a stated length, or up to the connection's end. What it refuses: other transfer
// codings, any content coding, a length beside chunks, several unlike lengths, folded header lines,
// and lines or heads beyond the bounds below. Interim answers (1xx) are skipped. One thread; value
// type.
class HttpResponseParser {
 public:
  static constexpr std::size_t kMaxHeadBytes = 64 * 1024;  // header, and trailers of chunks
  static constexpr std::size_t kMaxChunkLineBytes = 4 * 1024;

  // Takes bytes up to the end of the response, appends what belongs to the body to `body`, and
  // returns how many were taken; what is left is not of this response. After an error nothing more
  // is taken.
  [[nodiscard]] Result<std::size_t> put(std::string_view bytes, std::string& body);
  // The peer closed the connection. Error: in the middle of the response.
  [[nodiscard]] Result<void> end();

  [[nodiscard]] bool head_done() const { return state_ > State::kFields; }
  [[nodiscard]] bool done() const { return state_ == State::kDone; }
  // Of the head. Requires: head_done().
  [[nodiscard]] int status() const { return status_; }
  // Whether another response can follow on the connection. Requires: done().
  [[nodiscard]] bool keep_alive() const { return keep_alive_; }

 private:
  enum class State : std::uint8_t {
    kStatusLine,
    kFields,
    kLengthBody,
    kCloseBody,
    kChunkLine,
    kChunkData,
    kChunkEnd,
    kTrailers,
    kDone,
  };

  // Moves bytes up to a line's end into line_; true when the line is whole (without its CR LF).
  Result<bool> take_line(std::string_view& bytes, std::size_t bound);
  void take_body(std::string_view& bytes, std::string& body);
  Result<void> handle_line();
  Result<void> handle_status_line();
  Result<void> handle_field();
  Result<void> handle_chunk_line();
  Result<void> handle_head_end();

  State state_ = State::kStatusLine;
  std::string line_;
  std::size_t head_bytes_ = 0;
  int status_ = 0;
  bool keep_alive_ = true;
  bool chunked_ = false;
  bool has_length_ = false;
  std::uint64_t left_ = 0;  // of the body or the chunk
};

}  // namespace gimbal::loadgen
