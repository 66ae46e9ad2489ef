#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace gimbal::server {

enum class HttpMethod : std::uint8_t { kGet, kHead, kPost, kOptions, kOther };

// One request, as far as this server looks at it. Header values are as sent.
struct HttpRequest {
  HttpMethod method = HttpMethod::kGet;
  std::string path;   // of the target, without the query
  std::string query;  // without its ? and the fragment
  std::string authorization;
  std::string origin;
  std::string data_parallel_rank;  // X-data-parallel-rank, as vLLM has it
  std::string body;
  bool keep_alive = true;
  bool chunked_allowed = true;  // the client speaks HTTP/1.1
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string_view content_type = "application/json";
  std::string extra_headers = {};  // whole lines, each with its CRLF
};

// The client has ended its side of the connection before it was answered; nginx's number.
inline constexpr int kClientClosedRequest = 499;

// The standard phrase of a status this server sends; "Unknown" for others.
[[nodiscard]] std::string_view status_phrase(int status);

// How the end of a body is marked.
enum class BodyFraming : std::uint8_t { kLength, kChunked, kUntilClose };

struct ResponseHead {
  int status = 200;
  std::string_view content_type;
  std::string_view extra_headers;  // whole lines, each with its CRLF
  BodyFraming framing = BodyFraming::kLength;
  std::size_t body_bytes = 0;  // with kLength
  bool keep_alive = true;
};

// Appends the status line and headers, with the empty line that ends them.
void append_response_head(std::string& out, const ResponseHead& head);

// Appends one chunk of a chunked body. An empty payload appends nothing.
void append_chunk(std::string& out, std::string_view payload);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

// The answering side of one request, owned by its connection. One thread: the connection's loop.
// Either respond(), once, or start_stream(), any number of writes, end_stream(). A job whose
// request has been answered for it, because its client left, may still call: nothing comes of it.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;

  // The loop that this exchange, and what answers it, runs on.
  [[nodiscard]] virtual int loop() const = 0;

  virtual void respond(HttpResponse response) = 0;
  // Begins a 200 of type text/event-stream.
  virtual void start_stream(std::string_view extra_headers) = 0;
  // Payload that the next flush() sends; append to it.
  [[nodiscard]] virtual std::string& stream_buffer() = 0;
  // Raises, for this answer, the bound on what may wait for a slow client: by payload whose size
  // the request has fixed, such as its own prompt. Call before the flush() that sends it.
  virtual void allow_backlog(std::size_t bytes) = 0;
  // Sends the buffered payload. The client may be gone afterwards: then the job is destroyed soon.
  virtual void flush() = 0;
  virtual void end_stream() = 0;
  // Has the job's on_wake() called on the loop once this time of SteadyClock has come: once, and
  // never after the answer is complete. A later call replaces an earlier one.
  virtual void wake_at(TimePoint time) = 0;
};

// What a handler keeps of a request that it has not answered yet. The connection owns it, and
// destroys it, never inside a call from it, once the answer is complete or the client has gone.
class HttpJob {
 public:
  virtual ~HttpJob() = default;
  // What HttpExchange::wake_at() asked for.
  virtual void on_wake() {}
};

// Answers requests. Called on loop threads; thread-safe.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;

  // Answers through `exchange`, now (and returns null) or later (and returns the job that will).
  // Must not throw or block. `exchange` outlives the job.
  [[nodiscard]] virtual std::unique_ptr<HttpJob> handle(HttpRequest request,
                                                        HttpExchange& exchange) = 0;
  // The answer to a request that cannot be read; `reason` is for people.
  [[nodiscard]] virtual HttpResponse refuse(int status, std::string_view reason) = 0;
};

}  // namespace gimbal::server
