#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "loadgen/http_header.h"
#include "loadgen/target_url.h"
#include "loadgen/tls_client.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

// Which server a client command talks to.
struct TargetFlags {
  std::string base_url;
  std::string host = "127.0.0.1";
  int port = 8000;
  loadgen::TlsOptions tls;           // of an https base_url
  std::string model;                 // empty: the first that the server lists
  std::string api_key;               // empty: OPENAI_API_KEY, where it is set
  std::vector<std::string> headers;  // KEY=VALUE, of every request
  int ready_timeout_seconds = 60;

  void add_to(CLI::App& command);
};

struct ServeTarget {
  loadgen::TargetUrl url;
  std::string model;
  std::string api_key;
  std::vector<loadgen::HttpHeader> headers = {};
};

// Waits until the server answers, and asks it for its model where none is named. Errors name the
// flag or say what the server did.
[[nodiscard]] Result<ServeTarget> find_target(const TargetFlags& flags);

}  // namespace gimbal::apps
