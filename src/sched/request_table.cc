#include "sched/request_table.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace gimbal::sched {

Sequence& RequestTable::add(Request request, TimePoint now, int max_model_len) {
  const auto [place, added] = sequences_.try_emplace(request.id);
  GIMBAL_CHECK(added, "a request id was used twice");
  Sequence& sequence = place->second;
  sequence.tokens = std::move(request.prompt);
  sequence.prompt_tokens = sequence.known();
  sequence.max_tokens_known = static_cast<int>(
      std::min<std::int64_t>(max_model_len, std::int64_t{sequence.known()} + request.max_tokens));
  sequence.request = std::move(request);
  sequence.arrival = std::min(now, sequence.request.arrival.value_or(now));
  sequence.ordinal = submitted_++;
  return sequence;
}

void RequestTable::erase(RequestId id) {
  GIMBAL_CHECK(sequences_.erase(id) == 1);
}

Sequence* RequestTable::find(RequestId id) {
  const auto found = sequences_.find(id);
  return found == sequences_.end() ? nullptr : &found->second;
}

Sequence& RequestTable::at(RequestId id) {
  Sequence* sequence = find(id);
  GIMBAL_CHECK(sequence != nullptr);
  return *sequence;
}

const Sequence& RequestTable::at(RequestId id) const {
  return const_cast<RequestTable*>(this)->at(id);
}

}  // namespace gimbal::sched
