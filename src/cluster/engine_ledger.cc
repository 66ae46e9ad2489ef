#include "cluster/engine_ledger.h"

#include <algorithm>

#include "base/check.h"

namespace gimbal::cluster {

void EngineLedger::send(const LedgerEntry& entry) {
  GIMBAL_CHECK(unseen_.empty() || unseen_.back().sequence <= entry.sequence);
  const bool added = entries_.emplace(entry.request, Entry{.sent = entry}).second;
  GIMBAL_CHECK(added, "a request was sent twice");
  unseen_.push_back(entry);
  counts_.unseen_requests += 1;
  counts_.unseen_prefill_tokens += entry.prefill_tokens;
  if (entry.best_effort) counts_.unseen_best_effort_prefill_tokens += entry.prefill_tokens;
  counts_.unseen_pages += entry.pages;
  counts_.requests += 1;
  counts_.prefill_tokens += entry.prefill_tokens;
}

void EngineLedger::note_seen(Entry& entry) {
  if (entry.seen) return;
  entry.seen = true;
  counts_.unseen_requests -= 1;
  counts_.unseen_prefill_tokens -= entry.sent.prefill_tokens;
  if (entry.sent.best_effort) {
    counts_.unseen_best_effort_prefill_tokens -= entry.sent.prefill_tokens;
  }
  counts_.unseen_pages -= entry.sent.pages;
}

void EngineLedger::seen(std::uint64_t sequence) {
  while (!unseen_.empty() && unseen_.front().sequence <= sequence) {
    const auto found = entries_.find(unseen_.front().request);
    if (found != entries_.end() && found->second.sent.sequence <= sequence)
      note_seen(found->second);
    unseen_.pop_front();
  }
}

void EngineLedger::first_token(RequestId request) {
  const auto found = entries_.find(request);
  if (found == entries_.end() || found->second.decodes) return;
  note_seen(found->second);  // it runs, whatever the snapshots say
  found->second.decodes = true;
  counts_.prefill_tokens -= found->second.sent.prefill_tokens;
  counts_.decodes += 1;
}

void EngineLedger::end(RequestId request) {
  const auto found = entries_.find(request);
  if (found == entries_.end()) return;
  note_seen(found->second);
  counts_.requests -= 1;
  if (found->second.decodes) {
    counts_.decodes -= 1;
  } else {
    counts_.prefill_tokens -= found->second.sent.prefill_tokens;
  }
  entries_.erase(found);
  // An engine that has failed reports nothing any more: what it will never have seen must not pile
  // up.
  while (!unseen_.empty() && !entries_.contains(unseen_.front().request))
    unseen_.pop_front();
}

std::vector<RequestId> EngineLedger::requests() const {
  std::vector<RequestId> ids;
  for (const auto& [id, entry] : entries_)
    ids.push_back(id);
  std::ranges::sort(ids);
  return ids;
}

}  // namespace gimbal::cluster
