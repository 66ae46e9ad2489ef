#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "server/engine_metrics.h"

namespace gimbal::server {

// How one choice ended, for the metrics.
enum class ChoiceEnd : std::uint8_t { kStop, kLength, kAbort, kError };

struct EndedChoice {
  ChoiceEnd end = ChoiceEnd::kStop;
  Duration latency{};  // from the request's arrival
  Duration decode{};   // from the first token to the last
  std::int64_t prompt_tokens = 0;
  std::int64_t generated_tokens = 0;
};

// Why a request was not served.
enum class Refusal : std::uint8_t { kInvalid, kUnauthorized, kOverload, kUnavailable, kFailed };

// What /metrics says beside the snapshot's values.
struct ServerGauges {
  std::int64_t connections = 0;
  std::int64_t choices = 0;  // accepted and not ended
};

// The metrics of one served model, in vLLM's names where the meaning is the same. Thread-safe.
class ServerMetrics final {
 public:
  // `engine_label` stands at what is counted over all engines.
  explicit ServerMetrics(const std::string& model_name, const std::string& engine_label = "0");
  ~ServerMetrics();
  ServerMetrics(const ServerMetrics&) = delete;
  ServerMetrics& operator=(const ServerMetrics&) = delete;

  // Each costs about 50 ns.
  void first_token(Duration since_arrival);
  void next_token(Duration since_previous);
  void ended(const EndedChoice& choice);
  void unknown_fields(std::int64_t count);
  void refused(Refusal reason);

  // The text exposition. Before there is an engine its values are left out.
  [[nodiscard]] std::string expose(const EngineReadings& engines, const ServerGauges& gauges) const;

 private:
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace gimbal::server
