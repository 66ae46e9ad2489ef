#include "sched/prefix_lookup.h"

#include <algorithm>
#include <limits>

#include "base/hash.h"
#include "sched/request_group.h"

namespace gimbal::sched {
namespace {

int max_hit_tokens(const Sequence& sequence) {
  return sequence.request.sampling.prompt_logprobs ? 0 : std::numeric_limits<int>::max();
}

}  // namespace

std::uint64_t PrefixLookup::salt(const Sequence& sequence) const {
  return hash_combine(options_.model_salt, sequence.request.cache_salt);
}

kv::PrefixMatch PrefixLookup::match(const Sequence& sequence) const {
  return cache_.match(sequence.tokens, salt(sequence), max_hit_tokens(sequence));
}

kv::Attached PrefixLookup::attach(const Sequence& sequence) {
  return cache_.attach(sequence.tokens, salt(sequence), sequence.max_tokens_known,
                       max_hit_tokens(sequence));
}

int PrefixLookup::missing_prefill(const Sequence& sequence, const Sequence* ahead) const {
  int found = match(sequence).tokens;
  if (ahead != nullptr && salt(*ahead) == salt(sequence) &&
      may_hit_prefix(sequence.request, options_)) {
    found =
        std::max(found, shared_prefix_tokens(ahead->tokens, sequence.tokens, options_.page_tokens));
  }
  return sequence.known() - found;
}

}  // namespace gimbal::sched
