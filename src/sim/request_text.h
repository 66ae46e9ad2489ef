#pragma once

#include <cstdint>

#include "base/ids.h"

namespace gimbal::sim {

// The token that a simulated model puts at a position of a request: a fixed pseudo-random stream,
// whatever the schedule.
[[nodiscard]] TokenId simulated_token(RequestId request, std::int64_t position, int vocab_size);

struct SaidToken {
  TokenId token = 0;
  bool ends = false;  // the sequence, by itself
};

// What simulated models read and say. One thread.
class RequestText {
 public:
  virtual ~RequestText() = default;
  // Topic of the request's tokens, in [0, topics).
  [[nodiscard]] virtual int topic_of(RequestId request) const = 0;
  // What comes at a position of the request's sequence, prompt included; asked again after an
  // eviction, it says the same. By default simulated_token(), and no sequence ends by itself.
  [[nodiscard]] virtual SaidToken token_at(RequestId request, std::int64_t position,
                                           int vocab_size) const {
    return {.token = simulated_token(request, position, vocab_size)};
  }
};

}  // namespace gimbal::sim
