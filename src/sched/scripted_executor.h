#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/random.h"
#include "sched/batch_executor.h"
#include "sched/event.h"

namespace gimbal::sched {

// A BatchExecutor for tests: a "model" whose every token is a pure function of its context, read
// through the block tables from a memory of its own, so that a wrong page, position or chunk gives
// a wrong token. Checks that each call keeps the seam's contract. What it has to say waits in
// `events` until the test delivers it. One thread.
class ScriptedExecutor final : public BatchExecutor {
 public:
  struct Options {
    int layers = 3;
    int pages = 64;
    int page_tokens = 4;
    int vocab_size = 997;
    int max_rows = 1'000'000;
    int max_sequences = 1'000'000;
    std::uint64_t seed = 1;
    double failure_rate = 0;  // of leases
    Duration per_row{1000};   // attention
    Duration per_step{0};     // attention, whatever the rows
    Duration per_expert{0};   // service
    int experts = 0;          // see touched_experts
  };

  explicit ScriptedExecutor(const Options& options);

  // The token after `context`, whatever the schedule.
  [[nodiscard]] static TokenId next_token(std::span<const TokenId> context, int vocab_size);
  // Whether the "model" ends a sequence with that token.
  [[nodiscard]] static bool is_stop(TokenId token) { return token % 23 == 7; }
  // How many experts a step touches: what `rows` uniform choices of one would.
  [[nodiscard]] static int touched_experts(int experts, int rows);
  // All that a request generates when it runs to its end, and why it ends.
  [[nodiscard]] static std::vector<TokenId> generate(const Request& request, int vocab_size,
                                                     FinishReason* finish = nullptr);

  void start(const StepPlan& plan) override;
  void advance(BatchId batch, Cursor until) override;
  void yield(BatchId batch) override;
  void suspend(BatchId batch) override;
  void resume(BatchId batch) override;
  void merge(BatchId into, BatchId from) override;
  void split(BatchId from, std::span<const RequestId> sequences, BatchId to) override;
  void drop(BatchId batch, std::span<const RequestId> sequences) override;
  void finish(BatchId batch) override;
  [[nodiscard]] int layers() const override { return options_.layers; }

  std::deque<Event> events;      // what was answered, not delivered yet
  std::vector<StepPlan> plans;   // all that were started; spans as far as they still hold
  std::vector<std::string> log;  // calls
  bool hold_leases = false;      // a lease ends only by yield or release_lease()

  // With hold_leases: the batch stands at the end of its lease.
  void release_lease();
  // The batch fails in the middle of its lease. Requires: it has one.
  void fail(std::string message);
  [[nodiscard]] bool busy() const { return batch_.has_value(); }

 private:
  struct Batch {
    StepPlan plan;
    Cursor cursor;
    bool leased = false;
    bool reported = false;  // the lease's end has been said
    Cursor until;
  };

  void reach(Cursor cursor);
  [[nodiscard]] std::uint64_t& memory(const SequenceStep& step, int position);
  void check_plan(const StepPlan& plan) const;
  void run_rows(const SequenceStep& step);

  Options options_;
  Rng rng_;
  std::optional<Batch> batch_;
  std::vector<std::uint64_t> memory_;  // [pages, page_tokens]: the hash of the context so far
};

}  // namespace gimbal::sched
