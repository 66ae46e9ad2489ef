#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "policy/dispatch.h"

namespace gimbal::cluster {

// One sequence sent to an engine.
struct LedgerEntry {
  RequestId request;
  std::uint64_t sequence = 0;  // of dispatches; never falls from entry to entry
  double prefill_tokens = 0;   // uncached prompt tokens, as predicted
  double pages = 0;            // that its prompt will take
  bool best_effort = false;
};

// The requests that the dispatcher sent to one engine and that have not ended; apart from them
// those that the engine's newest snapshot cannot contain yet, by dispatch sequence number
// (docs/design/0009). The primary truth: it needs no word of the engine. One thread.
class EngineLedger {
 public:
  // Requires: the request is not in the ledger.
  void send(const LedgerEntry& entry);
  // A snapshot that contains all up to this sequence number has come.
  void seen(std::uint64_t sequence);
  void first_token(RequestId request);  // its prompt is computed; further calls change nothing
  void end(RequestId request);          // unknown requests are ignored

  [[nodiscard]] bool contains(RequestId request) const { return entries_.contains(request); }
  [[nodiscard]] const policy::LedgerCounts& counts() const { return counts_; }
  [[nodiscard]] std::vector<RequestId> requests() const;  // ascending

 private:
  struct Entry {
    LedgerEntry sent;
    bool seen = false;
    bool decodes = false;
  };
  void note_seen(Entry& entry);

  std::unordered_map<RequestId, Entry> entries_;
  std::deque<LedgerEntry> unseen_;  // in order of sequence; may hold ended ones
  policy::LedgerCounts counts_;
};

}  // namespace gimbal::cluster
