#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/ids.h"
#include "server/engine_metrics.h"

namespace gimbal::server {

// How one choice ended, for the metrics.
enum class ChoiceEnd : std::uint8_t { kStop, kLength, kAbort, kError };

struct EndedChoice {
  EngineId engine{-1};  // of several, the one that had it; -1: none that is known
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

// With more engines than this, choices are counted over all of them: an engine's have some 170
// series.
inline constexpr int kMostEnginesApart = 64;

// The metrics of one served model, in vLLM's names where the meaning is the same. One engine is
// "0". Of several, choices are counted by engine, those of which none is known as of "none", and
// what has no engine as of "all". Thread-safe.
class ServerMetrics final {
 public:
  explicit ServerMetrics(const std::string& model_name, bool several_engines = false);
  ~ServerMetrics();
  ServerMetrics(const ServerMetrics&) = delete;
  ServerMetrics& operator=(const ServerMetrics&) = delete;

  // How many there are. Requires: called before any choice is counted; once.
  void set_engines(int engines);

  // Each costs about 50 ns. `engine`: as of EndedChoice.
  void first_token(EngineId engine, Duration since_arrival);
  void next_token(EngineId engine, Duration since_previous);
  void ended(const EndedChoice& choice);
  void unknown_fields(std::int64_t count);
  void refused(Refusal reason);

  // The text exposition. Before there is an engine its values are left out.
  [[nodiscard]] std::string expose(const EngineReadings& engines, const ServerGauges& gauges) const;

 private:
  struct Choices;
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace gimbal::server
