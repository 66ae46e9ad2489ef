#pragma once

#include <string>
#include <string_view>

#include "base/clock.h"
#include "loadgen/event_stream_parser.h"
#include "loadgen/http_response_parser.h"
#include "report/request_record.h"

namespace gimbal::loadgen {

// Turns the bytes of one streamed answer and the times they came at into a record. Times are those
// of `vllm bench serve`: TTFT at the first chunk with a choice, E2E at the last. Without usage in
// the answer the chunks are counted as its tokens. One thread; one request.
class AnswerReader {
 public:
  // `record` has what is known before: times of sending, prompt tokens, class, user.
  AnswerReader(report::RequestRecord record, bool keep_text);

  // Takes what came at `now` (on the clock that record.sent is of). True when the answer is whole
  // or beyond help; bytes behind its end make the connection unusable.
  bool put(Duration now, std::string_view bytes);
  // The connection ended, for this reason.
  void end(std::string_view reason);

  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] bool started() const { return started_; }  // any byte has come
  // Whether the connection can carry another request. Requires: done().
  [[nodiscard]] bool reusable() const { return reusable_; }
  // The record; its error says what went wrong. Requires: done().
  [[nodiscard]] report::RequestRecord take() { return std::move(record_); }

 private:
  void handle_event(Duration now, std::string_view data);
  void handle_chunk(Duration now, std::string_view data);
  void fail(std::string reason);
  // Checks that the whole answer was one, and ends.
  void finish();

  report::RequestRecord record_;
  bool keep_text_;
  HttpResponseParser http_;
  EventStreamParser events_;
  std::string body_;       // what http_ has given and events_ has not taken
  Duration last_chunk_{};  // when it came
  std::int64_t chunks_ = 0;
  bool has_usage_ = false;
  bool saw_done_ = false;  // [DONE]
  bool started_ = false;
  bool done_ = false;
  bool reusable_ = false;
};

}  // namespace gimbal::loadgen
