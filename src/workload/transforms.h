#pragma once

#include <cstdint>
#include <optional>

#include "base/random.h"
#include "base/result.h"
#include "workload/request_spec.h"

namespace gimbal::workload {

// Multiplies every length, so that a workload fits a smaller machine: 0.125 turns 512 tokens
// into 64. Ends of parts are scaled, not parts, so lengths keep their sum and prompts that shared a
// prefix share its scaled one. Nothing falls below one token; text is shortened in proportion,
// never lengthened. Requires: 0 < factor <= 1000.
void scale_lengths(Workload& workload, double factor);

// Cuts prompts and outputs that are longer. Requires: caps, where given, >= 1.
void cap_lengths(Workload& workload, std::optional<std::int64_t> prompt_cap,
                 std::optional<std::int64_t> output_cap);

// Keeps the first `count` requests in order of arrival.
void keep_first(Workload& workload, std::size_t count);

// Moves all arrivals so that the first is 0. Requires: requests are in order of arrival.
void begin_at_zero(Workload& workload);

// Leaves out the first `count` requests; the others begin at 0. Requires: count < the number of
// requests, which are in order of arrival.
void drop_first(Workload& workload, std::size_t count);

// Requests drawn from a workload without arrivals, in random order: without replacement up to its
// size (each round a fresh shuffle beyond that; repeated prompts get an identity of their own where
// the workload has no prefixes). Requires: workload has requests.
[[nodiscard]] Workload sample_requests(const Workload& workload, std::size_t count, Rng& rng);

// Makes each request latency-sensitive with this probability, best-effort otherwise.
// Requires: 0 <= share <= 1.
void assign_classes(Workload& workload, double latency_sensitive_share, Rng& rng);

// Whom requests without user come from.
struct UserOptions {
  int users = 0;    // 0: no users; their names are "user-0" …
  int topics = 0;   // 0: none; user u writes about topic u mod topics
  int sources = 0;  // `--pin-users`: user u's requests go to engine u mod sources; 0: anywhere
};
[[nodiscard]] Result<void> validate(const UserOptions& options);

// Gives each request a user, uniformly, and with it topic and source. Errors: topics for a workload
// whose prompts share parts, which would then share nothing.
[[nodiscard]] Result<void> assign_users(Workload& workload, const UserOptions& options, Rng& rng);

}  // namespace gimbal::workload
