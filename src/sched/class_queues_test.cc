#include "sched/class_queues.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/random.h"

namespace gimbal::sched {
namespace {

constexpr RequestClass kSensitive = RequestClass::kLatencySensitive;
constexpr RequestClass kBestEffort = RequestClass::kBestEffort;

class ClassQueuesTest : public ::testing::Test {
 protected:
  void use(std::string_view order, const policy::RequestOrderOptions& options = {}) {
    order_ = std::move(policy::make_request_order(order, options)).value();
    queues_ = std::make_unique<ClassQueues>(*order_);
  }

  // `prefill` is the job size in ms, too.
  Sequence& push(double arrival_ms, int prefill, RequestClass request_class = kSensitive,
                 int priority = 0) {
    auto& sequence = sequences_.emplace_back(std::make_unique<Sequence>());
    sequence->request.id = RequestId{sequences_.size()};
    sequence->request.request_class = request_class;
    sequence->arrival = TimePoint{from_ms(arrival_ms)};
    sequence->ordinal = sequences_.size();
    sequence->queued_prefill = prefill;
    sequence->key = order_->key({sequence->arrival, static_cast<double>(prefill), priority});
    queues_->push(*sequence);
    return *sequence;
  }

  std::vector<std::uint64_t> order(double now_ms, RequestClass request_class = kSensitive) {
    std::vector<std::uint64_t> ids;
    queues_->for_each(request_class, TimePoint{from_ms(now_ms)}, [&](RequestId id) {
      ids.push_back(id.value());
      return true;
    });
    return ids;
  }

  std::unique_ptr<policy::RequestOrder> order_;
  std::unique_ptr<ClassQueues> queues_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
};

using Ids = std::vector<std::uint64_t>;

TEST_F(ClassQueuesTest, GoesByKeyThenArrivalThenSubmission) {
  use("sjf");
  push(3, 10);
  push(2, 10);
  push(2, 10);
  push(9, 1);
  EXPECT_EQ(order(10), (Ids{4, 2, 3, 1}));
}

TEST_F(ClassQueuesTest, KeepsClassesApartAndCountsThem) {
  use("fcfs");
  push(1, 10);
  push(2, 20, kBestEffort);
  const Sequence& third = push(3, 40);
  EXPECT_EQ(order(5), (Ids{1, 3}));
  EXPECT_EQ(order(5, kBestEffort), (Ids{2}));
  EXPECT_EQ(queues_->size(), 3);
  EXPECT_EQ(queues_->prefill_tokens(), 70);
  EXPECT_EQ(queues_->prefill_tokens(kBestEffort), 20);
  queues_->erase(third);
  EXPECT_EQ(order(5), (Ids{1}));
  EXPECT_EQ(queues_->prefill_tokens(kSensitive), 10);
}

TEST_F(ClassQueuesTest, AProfileSaysWhatRunsBeforeAKey) {
  use("sjf-priority-aging");
  for (int prefill = 1; prefill <= 16; ++prefill)
    push(10'000 + prefill, prefill);
  push(0, 500, kBestEffort);
  const TimePoint now{from_ms(10'100)};
  const auto exact = queues_->profile(kSensitive, now);
  ASSERT_EQ(exact.size(), 16);
  for (int key = 0; key <= 17; ++key) {
    const int before = std::min(key, 16);
    EXPECT_EQ(exact.tokens_before({0, key + 0.5}), before * (before + 1) / 2) << key;
  }
  push(1, 1000);  // has waited beyond the threshold: first of all
  const auto promoted = queues_->profile(kSensitive, now);
  EXPECT_EQ(promoted.size(), 9);  // slices of two
  EXPECT_EQ(promoted.tokens_before({0, 0.5}), 0.5 * 1001);
  EXPECT_EQ(promoted.tokens_before({0, 99}), 1136);
  EXPECT_EQ(queues_->profile(kBestEffort, now).tokens_before({0, 501}), 500);
}

TEST_F(ClassQueuesTest, AProfileOfManyRequestsStaysShort) {
  use("fcfs");
  for (int i = 0; i < 3000; ++i)
    push(i, 1);
  const auto profile = queues_->profile(kSensitive, TimePoint{});
  EXPECT_EQ(profile.size(), policy::QueueProfile::kMostPoints);
  EXPECT_EQ(profile.tokens_before({0, 511}), 512);
  EXPECT_EQ(profile.tokens_before({0, 511.5}), 544);
  EXPECT_EQ(profile.tokens_before({0, 1e6}), 1024);  // of the first 1024
  EXPECT_EQ(queues_->profile(kBestEffort, TimePoint{}).size(), 0);
}

TEST_F(ClassQueuesTest, StopsWhenTheVisitorHasSeenEnough) {
  use("fcfs");
  push(1, 1);
  push(2, 1);
  int seen = 0;
  queues_->for_each(kSensitive, TimePoint{}, [&](RequestId) { return ++seen < 1; });
  EXPECT_EQ(seen, 1);
}

TEST_F(ClassQueuesTest, PromotesThoseThatHaveWaitedBeyondTheThreshold) {
  use("sjf-priority-aging", {.promote_after = from_ms(100)});
  push(0, 90);
  push(10, 80, kSensitive, 5);
  push(20, 1);
  push(110, 2);
  EXPECT_EQ(order(100), (Ids{3, 4, 1, 2}));
  EXPECT_EQ(order(100.5), (Ids{1, 3, 4, 2}));
  EXPECT_EQ(order(111), (Ids{1, 2, 3, 4}));  // before all priorities
}

TEST_F(ClassQueuesTest, PromotesAfterTwiceTheMedianWait) {
  use("sjf-priority-aging", {.promote_after_auto = true});
  for (const double wait : {10.0, 50.0, 30.0})
    queues_->note_wait(from_ms(wait));
  push(0, 90);
  push(1, 1);
  EXPECT_EQ(order(60), (Ids{2, 1}));
  EXPECT_EQ(order(60.5), (Ids{1, 2}));
  for (int i = 0; i < 100; ++i)
    queues_->note_wait(from_ms(500));  // the old ones are forgotten
  EXPECT_EQ(order(999), (Ids{2, 1}));
}

TEST_F(ClassQueuesTest, ReordersByNewKeys) {
  use("sjf-aging");
  std::vector<Sequence*> sequences;
  for (int i = 0; i < 6; ++i)
    sequences.push_back(&push(static_cast<double>(i), 7 * i % 5));
  Ids reversed;
  for (const std::uint64_t id : order(100))
    reversed.insert(reversed.begin(), id);
  queues_->reorder(RequestClass::kLatencySensitive, [&](RequestId id) {
    Sequence& sequence = *sequences[id.value() - 1];
    sequence.key.value = -sequence.key.value;
    return sequence.key;
  });
  EXPECT_EQ(order(100), reversed);
  for (const Sequence* sequence : sequences)
    queues_->erase(*sequence);
  EXPECT_EQ(queues_->size(), 0);
}

TEST_F(ClassQueuesTest, EqualsASortedListUnderRandomPushesAndErases) {
  use("sjf-aging");
  Rng rng(3);
  std::vector<const Sequence*> naive;
  for (int round = 0; round < 3000; ++round) {
    if (naive.size() < 20 && rng.below(2) == 0) {
      naive.push_back(
          &push(static_cast<double>(rng.below(50)), static_cast<int>(rng.below(6)), kSensitive));
    } else if (!naive.empty()) {
      const auto at = naive.begin() + static_cast<std::ptrdiff_t>(rng.below(naive.size()));
      queues_->erase(**at);
      naive.erase(at);
    }
    std::vector<const Sequence*> sorted = naive;
    std::sort(sorted.begin(), sorted.end(), [](const Sequence* a, const Sequence* b) {
      if (a->key != b->key) return a->key < b->key;
      return a->arrival != b->arrival ? a->arrival < b->arrival : a->ordinal < b->ordinal;
    });
    Ids expected;
    for (const Sequence* sequence : sorted)
      expected.push_back(sequence->request.id.value());
    ASSERT_EQ(order(1000), expected);
  }
}

}  // namespace
}  // namespace gimbal::sched
