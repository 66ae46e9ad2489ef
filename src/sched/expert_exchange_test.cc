// Both ends of an expert exchange together, under random posts, runs, late outputs, cancels and
// re-posts, against a model that keeps every entry ever posted.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <tuple>

#include "base/random.h"
#include "sched/expert_queues.h"
#include "sched/outstanding_rows.h"

namespace gimbal::sched {
namespace {

constexpr int kSources = 2;
constexpr int kSlots = 6;
constexpr int kLayers = 2;
constexpr int kExperts = 5;
constexpr int kChoices = 2;
constexpr int kRows = 16;  // a source has room for

class RandomExchange {
 public:
  RandomExchange(std::string_view policy_name, std::uint64_t seed)
      : rng_(seed),
        policy_(policy::make_expert_queue_policy(policy_name,
                                                 {.quantum = from_ms(1), .max_defer = kMaxDefer})
                    .value()),
        queues_({.layers = kLayers, .experts = kExperts, .max_entries = kSources * kRows * 40}) {
    for (int i = 0; i < kSources; ++i) {
      sources_.emplace_back();
      sources_.back().free_rows.resize(kRows);
      for (int row = 0; row < kRows; ++row)
        sources_.back().free_rows[row] = row;
    }
  }

  void run(int operations) {
    for (int i = 0; i < operations && !testing::Test::HasFatalFailure(); ++i) {
      now_ += from_ms(0.1);
      Source& source = sources_[rng_.below(kSources)];
      const std::uint64_t pick = rng_.below(20);
      if (pick < 10) {
        post(source);
      } else if (pick < 14) {
        run_queues();
      } else if (pick < 18) {
        deliver();
      } else if (pick == 18) {
        cancel(source, static_cast<int>(rng_.below(kSlots)));
      } else {
        repost(source, static_cast<int>(rng_.below(kSlots)));
      }
      check();
    }
    while (queues_.entries() > 0 && !testing::Test::HasFatalFailure())
      run_queues();
    while (!in_flight_.empty() && !testing::Test::HasFatalFailure())
      deliver();
    for (const Source& source : sources_)
      EXPECT_EQ(source.rows.missing(), 0);
    EXPECT_EQ(posted_, run_ + cancelled_);
    EXPECT_EQ(run_, used_ + dropped_);
  }

  [[nodiscard]] int used() const { return used_; }
  [[nodiscard]] int dropped() const { return dropped_; }
  [[nodiscard]] int most_deferred() const { return most_deferred_; }

 private:
  static constexpr int kMaxDefer = 4;
  struct Waiting {
    ExpertEntry entry;
    int passed_over = 0;  // runs, while its queue held best-effort rows only
  };
  struct NaiveSlot {
    RequestClass request_class = RequestClass::kLatencySensitive;
    std::uint32_t epoch = 0;
    std::uint32_t map_version = 0;
    int layer = 0;
    std::map<int, std::pair<int, int>> missing;  // output → (row, expert)
    std::vector<int> rows;                       // in use
  };
  struct Source {
    OutstandingRows rows{{.max_slots = kSlots, .max_outputs = kRows * kChoices}};
    std::vector<NaiveSlot> slots = std::vector<NaiveSlot>(kSlots);
    std::vector<int> free_rows;
  };
  using Key = std::pair<int, int>;  // layer, expert

  [[nodiscard]] int rank(const Source& source) const {
    return static_cast<int>(&source - sources_.data());
  }

  // Hands rows to the service and to the model of its queues.
  void send(Source& source, const ExpertPost& post) {
    const std::size_t k = post.experts.size() / post.rows.size();
    for (std::size_t i = 0; i < post.experts.size(); ++i) {
      const PostedRow& row = post.rows[i / k];
      waiting_[{post.layer.value(), post.experts[i]}].push_back(
          {.entry = {.slot = row.slot,
                     .epoch = row.epoch,
                     .row = row.row,
                     .output = row.first_output + static_cast<int>(i % k),
                     .map_version = post.map_version,
                     .step = post.step,
                     .source = static_cast<std::int16_t>(rank(source)),
                     .request_class = row.request_class}});
      ++posted_;
    }
    queues_.post(post, now_);
  }

  // A layer's rows of some sequences that wait for nothing.
  void post(Source& source) {
    std::vector<PostedRow> rows;
    std::vector<std::int32_t> experts;
    const int layer = static_cast<int>(rng_.below(kLayers));
    for (int i = 0; i < kSlots; ++i) {
      NaiveSlot& slot = source.slots[static_cast<std::size_t>(i)];
      if (!slot.missing.empty() || rng_.below(2) == 0) continue;
      slot.request_class =
          rng_.below(3) == 0 ? RequestClass::kLatencySensitive : RequestClass::kBestEffort;
      slot.map_version = map_version_;
      slot.layer = layer;
      const std::int64_t count = rng_.between(1, 3);
      for (std::int64_t n = 0; n < count && !source.free_rows.empty(); ++n) {
        const int row = source.free_rows.back();
        source.free_rows.pop_back();
        slot.rows.push_back(row);
        rows.push_back({.slot = SourceSlot{i},
                        .epoch = source.rows.epoch(SourceSlot{i}),
                        .row = row,
                        .first_output = row * kChoices,
                        .request_class = slot.request_class});
        const auto first = static_cast<int>(rng_.below(kExperts - 1));
        const auto second = static_cast<int>(rng_.between(first + 1, kExperts - 1));
        slot.missing[row * kChoices] = {row, first};
        slot.missing[row * kChoices + 1] = {row, second};
        experts.insert(experts.end(), {first, second});
      }
    }
    if (rows.empty()) return;
    const ExpertPost post{.source = Rank{rank(source)},
                          .layer = LayerIndex{layer},
                          .step = static_cast<std::uint32_t>(rng_.below(3)),
                          .map_version = map_version_,
                          .rows = rows,
                          .experts = experts};
    source.rows.post(post);
    send(source, post);
  }

  void run_queues() {
    const policy::ExpertQueueDecision& decision = queues_.next(*policy_, now_);
    ASSERT_EQ(decision.run.empty(), queues_.entries() == 0);
    if (decision.run.empty()) return;
    check_classes(decision.run);
    ExpertRun run;
    queues_.take(decision.run, run);
    queues_.note_time(run, from_ms(0.3 * static_cast<double>(run.groups.size()) +
                                   0.05 * static_cast<double>(run.entries.size())));
    ASSERT_EQ(run.rows.size(), run.entries.size());
    ASSERT_EQ(run.outputs.size(), run.entries.size());
    for (const ExpertRun::Group& group : run.groups) {
      auto node = waiting_.extract(Key{group.layer.value(), group.expert.value()});
      ASSERT_FALSE(node.empty()) << "a queue that does not wait";
      const std::deque<Waiting>& expected = node.mapped();
      ASSERT_EQ(static_cast<std::size_t>(group.count), expected.size());
      for (int i = 0; i < group.count; ++i) {
        const auto at = static_cast<std::size_t>(group.first + i);
        ASSERT_EQ(run.entries[at], expected[static_cast<std::size_t>(i)].entry);
        ASSERT_EQ(run.rows[at], run.entries[at].row);
        ASSERT_EQ(run.outputs[at], run.entries[at].output);
        in_flight_.push_back(run.entries[at]);
        ++run_;
      }
    }
    for (auto& [key, queue] : waiting_) {
      if (best_effort_only(queue)) {
        for (Waiting& waiting : queue) {
          most_deferred_ = std::max(most_deferred_, ++waiting.passed_over);
          ASSERT_LE(waiting.passed_over, kMaxDefer);
        }
      }
    }
  }

  static bool best_effort_only(const std::deque<Waiting>& queue) {
    return std::ranges::all_of(queue, [](const Waiting& waiting) {
      return waiting.entry.request_class == RequestClass::kBestEffort;
    });
  }

  // Every queue with a latency-sensitive row runs, and none after a best-effort one.
  void check_classes(const std::vector<int>& chosen) {
    std::set<Key> latency_sensitive;
    for (const auto& [key, queue] : waiting_) {
      if (!best_effort_only(queue)) latency_sensitive.insert(key);
    }
    for (const int index : chosen) {
      const auto& queue = queues_.waiting()[static_cast<std::size_t>(index)];
      const bool erased = latency_sensitive.erase({queue.layer.value(), queue.expert.value()}) > 0;
      ASSERT_TRUE(erased || latency_sensitive.empty());
    }
    ASSERT_TRUE(latency_sensitive.empty());
  }

  // Some outputs arrive at their sources, in any order.
  void deliver() {
    std::vector<std::vector<ExpertEntry>> arrived(kSources);
    const std::int64_t count = rng_.between(1, 12);
    for (std::int64_t i = 0; i < count && !in_flight_.empty(); ++i) {
      std::swap(in_flight_[rng_.below(in_flight_.size())], in_flight_.back());
      const auto source = static_cast<std::size_t>(in_flight_.back().source);
      arrived[source].push_back(in_flight_.back());
      in_flight_.pop_back();
    }
    Completion completion;
    for (std::size_t s = 0; s < kSources; ++s) {
      Source& source = sources_[s];
      std::vector<int> dropped;
      std::vector<SourceSlot> complete;
      for (std::size_t i = 0; i < arrived[s].size(); ++i) {
        const ExpertEntry& entry = arrived[s][i];
        NaiveSlot& slot = source.slots[static_cast<std::size_t>(entry.slot.value())];
        if (entry.epoch != slot.epoch || entry.map_version != slot.map_version) {
          dropped.push_back(static_cast<int>(i));
          ++dropped_;
          continue;
        }
        ASSERT_EQ(slot.missing.erase(entry.output), 1u);
        ++used_;
        if (slot.missing.empty()) {
          complete.push_back(entry.slot);
          free_rows(source, slot);
        }
      }
      source.rows.complete(arrived[s], completion);
      ASSERT_EQ(completion.dropped, dropped);
      ASSERT_EQ(completion.complete, complete);
    }
  }

  static void free_rows(Source& source, NaiveSlot& slot) {
    source.free_rows.insert(source.free_rows.end(), slot.rows.begin(), slot.rows.end());
    slot.rows.clear();
  }

  // Removes from the queues, or leaves the entries to be dropped when they come back.
  void withdraw(Source& source, int slot, std::uint32_t epoch) {
    if (rng_.below(2) == 0) return;
    int expected = 0;
    for (auto at = waiting_.begin(); at != waiting_.end();) {
      expected += static_cast<int>(std::erase_if(at->second, [&](const Waiting& waiting) {
        return waiting.entry.source == rank(source) && waiting.entry.slot == SourceSlot{slot} &&
               waiting.entry.epoch == epoch;
      }));
      at = at->second.empty() ? waiting_.erase(at) : std::next(at);
    }
    ASSERT_EQ(queues_.cancel(Rank{rank(source)}, SourceSlot{slot}, epoch), expected);
    cancelled_ += expected;
  }

  void cancel(Source& source, int index) {
    NaiveSlot& slot = source.slots[static_cast<std::size_t>(index)];
    ASSERT_EQ(source.rows.drop(SourceSlot{index}), static_cast<int>(slot.missing.size()));
    withdraw(source, index, slot.epoch);
    ++slot.epoch;
    slot.missing.clear();
    free_rows(source, slot);
  }

  // A new map: the sequence asks again for what it misses.
  void repost(Source& source, int index) {
    NaiveSlot& slot = source.slots[static_cast<std::size_t>(index)];
    if (slot.missing.empty()) return;
    ++map_version_;
    std::vector<std::int32_t> outputs;
    source.rows.repost(SourceSlot{index}, map_version_, outputs);
    withdraw(source, index, slot.epoch);
    ++slot.epoch;
    slot.map_version = map_version_;
    ASSERT_EQ(source.rows.epoch(SourceSlot{index}), slot.epoch);
    std::vector<PostedRow> rows;
    std::vector<std::int32_t> experts;
    auto missing = slot.missing.begin();
    ASSERT_EQ(outputs.size(), slot.missing.size());
    for (const std::int32_t output : outputs) {
      ASSERT_EQ(output, missing->first);
      const auto [row, expert] = (missing++)->second;
      rows.push_back({.slot = SourceSlot{index},
                      .epoch = slot.epoch,
                      .row = row,
                      .first_output = output,
                      .request_class = slot.request_class});
      experts.push_back(expert);
    }
    send(source, {.source = Rank{rank(source)},
                  .layer = LayerIndex{slot.layer},
                  .map_version = map_version_,
                  .rows = rows,
                  .experts = experts});
  }

  void check() {
    int entries = 0;
    for (const auto& [key, queue] : waiting_)
      entries += static_cast<int>(queue.size());
    ASSERT_EQ(queues_.entries(), entries);
    ASSERT_EQ(queues_.waiting().size(), waiting_.size());
    for (const auto& waiting : queues_.waiting()) {
      const auto found = waiting_.find({waiting.layer.value(), waiting.expert.value()});
      ASSERT_NE(found, waiting_.end());
      ASSERT_EQ(static_cast<std::size_t>(waiting.rows()), found->second.size());
      ASSERT_EQ(waiting.best_effort_only(), best_effort_only(found->second));
    }
    for (const Source& source : sources_) {
      for (int i = 0; i < kSlots; ++i) {
        const NaiveSlot& slot = source.slots[static_cast<std::size_t>(i)];
        ASSERT_EQ(source.rows.missing(SourceSlot{i}), static_cast<int>(slot.missing.size()));
      }
    }
  }

  Rng rng_;
  std::unique_ptr<policy::ExpertQueuePolicy> policy_;
  ExpertQueues queues_;
  std::vector<Source> sources_;
  std::map<Key, std::deque<Waiting>> waiting_;
  std::vector<ExpertEntry> in_flight_;
  TimePoint now_{};
  std::uint32_t map_version_ = 0;
  int posted_ = 0;
  int run_ = 0;
  int cancelled_ = 0;
  int used_ = 0;
  int dropped_ = 0;
  int most_deferred_ = 0;
};

TEST(ExpertExchange, EveryPostedRowIsRunOnceOrDroppedForAReason) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    RandomExchange exchange("run-all", seed);
    exchange.run(3000);
    EXPECT_GT(exchange.used(), 1000);
    EXPECT_GT(exchange.dropped(), 50);
    EXPECT_EQ(exchange.most_deferred(), 0);
  }
}

TEST(ExpertExchange, LsFirstDefersBestEffortRowsWithinItsBound) {
  int most_deferred = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    RandomExchange exchange("ls-first", seed);
    exchange.run(3000);
    EXPECT_GT(exchange.used(), 1000);
    most_deferred = std::max(most_deferred, exchange.most_deferred());
  }
  EXPECT_EQ(most_deferred, 4);
}

}  // namespace
}  // namespace gimbal::sched
