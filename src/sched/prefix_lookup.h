#pragma once

#include <cstdint>

#include "kv/kv_cache.h"
#include "sched/request_table.h"
#include "sched/step_loop_options.h"

namespace gimbal::sched {

// The prefix cache as the sequences of one engine see it: under their salts, and with as many hits
// as they may have. One thread. Refers to both, which must outlive it.
class PrefixLookup {
 public:
  PrefixLookup(const StepLoopOptions& options, kv::KvCache& cache)
      : options_(options), cache_(cache) {}

  [[nodiscard]] kv::PrefixMatch match(const Sequence& sequence) const;
  // Makes the sequence's block table, with its hits in it.
  [[nodiscard]] kv::Attached attach(const Sequence& sequence);

  // Uncached tokens that the sequence would bring to the queue now. What it shares with `ahead`,
  // the one before it in its group, counts as cached.
  [[nodiscard]] int missing_prefill(const Sequence& sequence,
                                    const Sequence* ahead = nullptr) const;

 private:
  [[nodiscard]] std::uint64_t salt(const Sequence& sequence) const;

  const StepLoopOptions& options_;
  kv::KvCache& cache_;
};

}  // namespace gimbal::sched
