#include "cluster/engine_ledger.h"

#include <gtest/gtest.h>

#include <map>

#include "base/random.h"

namespace gimbal::cluster {
namespace {

TEST(EngineLedgerTest, CountsWhatSnapshotsCannotContain) {
  EngineLedger ledger;
  ledger.send({.request = RequestId{1}, .sequence = 4, .prefill_tokens = 100, .pages = 7});
  ledger.send({.request = RequestId{2},
               .sequence = 6,
               .prefill_tokens = 50,
               .pages = 4,
               .best_effort = true});
  EXPECT_EQ(ledger.counts().unseen_requests, 2);
  EXPECT_EQ(ledger.counts().unseen_prefill_tokens, 150);
  EXPECT_EQ(ledger.counts().unseen_best_effort_prefill_tokens, 50);
  EXPECT_EQ(ledger.counts().unseen_pages, 11);
  ledger.seen(5);
  EXPECT_EQ(ledger.counts().unseen_requests, 1);
  EXPECT_EQ(ledger.counts().unseen_pages, 4);
  EXPECT_EQ(ledger.counts().requests, 2);
  EXPECT_EQ(ledger.counts().prefill_tokens, 150);
  ledger.first_token(RequestId{1});
  EXPECT_EQ(ledger.counts().prefill_tokens, 50);
  EXPECT_EQ(ledger.counts().decodes, 1);
  ledger.end(RequestId{2});
  ledger.end(RequestId{1});
  EXPECT_EQ(ledger.counts(), policy::LedgerCounts{});
  ledger.seen(9);
  EXPECT_EQ(ledger.counts(), policy::LedgerCounts{});
}

TEST(EngineLedgerTest, ARequestThatCameBackIsUnseenAgain) {
  EngineLedger ledger;
  ledger.send({.request = RequestId{1}, .sequence = 4, .prefill_tokens = 10});
  ledger.end(RequestId{1});
  ledger.send({.request = RequestId{1}, .sequence = 8, .prefill_tokens = 10});
  ledger.seen(4);
  EXPECT_EQ(ledger.counts().unseen_requests, 1);
  ledger.seen(8);
  EXPECT_EQ(ledger.counts().unseen_requests, 0);
}

TEST(EngineLedgerTest, AgreesWithCountingAnew) {
  struct Sent {
    LedgerEntry entry;
    bool seen = false;
    bool decodes = false;
  };
  Rng rng(9);
  EngineLedger ledger;
  std::map<RequestId, Sent> model;
  std::uint64_t sequence = 0;
  std::uint64_t id = 0;
  for (int step = 0; step < 20'000; ++step) {
    const std::uint64_t what = rng.below(4);
    if (what == 0) {
      sequence += rng.below(2);
      const LedgerEntry entry{.request = RequestId{++id},
                              .sequence = sequence,
                              .prefill_tokens = static_cast<double>(rng.below(100)),
                              .pages = static_cast<double>(rng.below(9)),
                              .best_effort = rng.below(2) == 0};
      ledger.send(entry);
      model[entry.request] = {entry};
    } else if (what == 1) {
      const std::uint64_t upto = sequence - std::min(sequence, rng.below(5));
      ledger.seen(upto);
      for (auto& [request, sent] : model)
        sent.seen = sent.seen || sent.entry.sequence <= upto;
    } else {
      const RequestId request{id - std::min(id, rng.below(8))};
      const auto found = model.find(request);
      if (what == 2) {
        ledger.first_token(request);
        if (found != model.end()) found->second.seen = found->second.decodes = true;
      } else {
        ledger.end(request);
        model.erase(request);
      }
    }
    policy::LedgerCounts counts;
    for (const auto& [request, sent] : model) {
      counts.requests += 1;
      counts.decodes += sent.decodes ? 1 : 0;
      counts.prefill_tokens += sent.decodes ? 0 : sent.entry.prefill_tokens;
      if (sent.seen) continue;
      counts.unseen_requests += 1;
      counts.unseen_prefill_tokens += sent.entry.prefill_tokens;
      counts.unseen_pages += sent.entry.pages;
      if (sent.entry.best_effort)
        counts.unseen_best_effort_prefill_tokens += sent.entry.prefill_tokens;
    }
    ASSERT_EQ(ledger.counts(), counts) << step;
  }
}

}  // namespace
}  // namespace gimbal::cluster
