#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "sched/request.h"

namespace gimbal::server {

// Bounds and times of the HTTP transport.
struct HttpOptions {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;  // 0: any free one
  int io_threads = 1;         // each with its own loop; a connection stays on one
  std::string ssl_certfile;   // PEM chain; TLS is on when it is not empty
  std::string ssl_keyfile;    // PEM; empty: inside ssl_certfile

  int max_connections = 4096;  // further ones get a 503
  std::size_t max_header_bytes = 32u << 10;
  std::size_t max_body_bytes = 16u << 20;  // beyond it: 413
  // Bodies being received, all connections together; beyond it: 503.
  std::size_t max_receiving_bytes = 512u << 20;
  // What is read and dropped after a refusal, so that the client can read the answer.
  std::size_t max_dropped_bytes = 64u << 20;
  // What may wait for a client that reads a stream too slowly, beyond an echo of its prompt and the
  // largest piece sent at once; beyond it the connection is closed.
  std::size_t max_pending_output_bytes = 2u << 20;
  // What a client may send ahead while a request of it is answered.
  std::size_t max_pipelined_bytes = 64u << 10;

  Duration header_time = std::chrono::seconds(20);  // first byte to end of header; TLS handshake
  Duration body_time = std::chrono::seconds(120);   // first byte to end of body
  Duration idle_time = std::chrono::seconds(75);    // between requests
  Duration write_time = std::chrono::seconds(30);   // without a byte read by the client
  Duration linger_time = std::chrono::seconds(5);   // for the client to close after the last answer
};

// The server's options; the names of the command line's flags follow them.
struct ServerOptions {
  HttpOptions http;

  std::string version;                          // of the program, as /version says it
  std::vector<std::string> served_model_names;  // the first is shown; all are accepted
  std::vector<std::string> api_keys;            // empty: open
  std::vector<std::string> cors_origins;        // "*": any; empty: no CORS headers
  std::uint64_t seed = 0;                       // of requests that bring none
  sched::RequestClass default_class = sched::RequestClass::kLatencySensitive;

  bool several_engines = false;  // /metrics tells them apart

  int max_choices_per_request = 1024;  // prompts × n
  int max_running_choices = 16384;     // over all requests; beyond it: 429
  // Prompts up to this size are tokenized on the loop's thread, longer ones on a worker thread.
  std::size_t inline_tokenize_bytes = 4096;
  // Prompt bytes that may wait for the worker thread; beyond it: 429.
  std::size_t max_waiting_prompt_bytes = 128u << 20;

  // What a stream generates within this time of its last write is written together, one chunk a
  // choice; 0: as they come. A choice's first chunk and its end never wait.
  Duration stream_interval = std::chrono::milliseconds(5);
};

}  // namespace gimbal::server
