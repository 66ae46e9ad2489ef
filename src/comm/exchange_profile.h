#pragma once

#include <string>

#include "base/clock.h"
#include "base/ids.h"
#include "base/json.h"
#include "base/result.h"

namespace gimbal::comm {

// What a message between two ranks takes.
struct ExchangeTier {
  double latency_us = 0;  // >= 0
  double gb_per_s = 0;    // 10^9 bytes a second, >= 1e-6; 0: no limit

  bool operator==(const ExchangeTier&) const = default;
};

// Where the ranks of a group stand, and what messages between them are made to take: in shared
// memory an exchange is nearly free, on real machines it is not.
struct ExchangeProfile {
  int ranks_per_node = 1;  // ranks [0, n) are on the first node, and so on
  ExchangeTier same_node;
  ExchangeTier other_node;

  // Requires: different ranks; a rank's messages to itself take nothing.
  [[nodiscard]] const ExchangeTier& tier(Rank from, Rank to) const;

  // What sending `bytes` of rows to the others of a group of `ranks`, as much to each, and as many
  // back, adds to an exchange: the time of the slowest link, since all carry at once. By bandwidth
  // alone: latency is a message's, and a layer's messages go whether or not a row more is in them.
  // Requires: at least two ranks.
  [[nodiscard]] double round_trip_ms(int ranks, double bytes) const;

  bool operator==(const ExchangeProfile&) const = default;
};

// {"ranks_per_node": 8, "same_node": {"latency_us": 3, "gb_per_s": 390}, "other_node": {…}}; absent
// fields keep their defaults. Errors name the field and its value.
[[nodiscard]] Result<ExchangeProfile> exchange_profile_from_json(const Json& value);
[[nodiscard]] Result<ExchangeProfile> read_exchange_profile(const std::string& path);

// One direction between two ranks: messages follow each other at the tier's bandwidth and each
// arrives after its latency. Value type.
class ExchangeLink {
 public:
  explicit ExchangeLink(const ExchangeTier& tier = {}) : tier_(tier) {}

  // When a message of `bytes` that is sent now arrives. Requires: `now` never falls.
  [[nodiscard]] TimePoint send(TimePoint now, double bytes);

 private:
  ExchangeTier tier_;
  TimePoint free_at_{};
};

}  // namespace gimbal::comm
