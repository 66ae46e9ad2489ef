#include "comm/in_process/channel.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/random.h"

namespace gimbal::comm {
namespace {

TEST(Channel, KeepsOrderAndItems) {
  Channel<int, int> channel(4, 10);
  std::vector<int> items{99};
  EXPECT_EQ(channel.peek(), nullptr);
  EXPECT_TRUE(channel.empty());
  for (int round = 0; round < 7; ++round) {  // around the rings' ends
    const std::vector<int> three{round, round + 1, round + 2};
    channel.send(10 + round, three);
    channel.send(20 + round, {});
    ASSERT_NE(channel.peek(), nullptr);
    EXPECT_EQ(*channel.peek(), 10 + round);
    EXPECT_EQ(channel.receive(items), 10 + round);
    EXPECT_EQ(items, three);
    EXPECT_FALSE(channel.empty());
    EXPECT_EQ(channel.receive(items), 20 + round);
    EXPECT_TRUE(items.empty());
    EXPECT_TRUE(channel.empty());
  }
}

TEST(ChannelDeathTest, AFullMailboxIsABug) {
  Channel<int, int> channel(2, 3);
  channel.send(1, std::vector<int>{1, 2});
  EXPECT_DEATH(channel.send(2, std::vector<int>{3, 4}), "mailbox is full");
  EXPECT_FALSE(channel.has_room(2));
  EXPECT_TRUE(channel.has_room(1));
  channel.send(2, {});
  EXPECT_FALSE(channel.has_room(0));
  EXPECT_DEATH(channel.send(3, {}), "mailbox is full");
}

struct Counted {
  static inline int made = 0;
  Counted() { ++made; }
};

TEST(Channel, MemoryIsNotTouchedBeforeItIsUsed) {
  Counted::made = 0;
  Channel<Counted, Counted> channel(1000, 1000);
  EXPECT_EQ(Counted::made, 0);
}

TEST(Channel, TwoThreadsSeeTheSameMessages) {
  constexpr int kMessages = 20'000;
  Channel<int, std::uint64_t> channel(64, 512);
  std::thread sender([&channel] {
    Rng rng(1);
    std::vector<std::uint64_t> items;
    for (int message = 0; message < kMessages;) {
      items.assign(rng.below(8), static_cast<std::uint64_t>(message));
      channel.send(message, items);
      ++message;
      // Never more than the rings hold: what is not bounded by the owner is bounded here.
      while (message % 32 == 0 && !channel.empty())
        std::this_thread::yield();
    }
  });
  Rng rng(1);
  std::vector<std::uint64_t> items;
  for (int message = 0; message < kMessages;) {
    if (channel.peek() == nullptr) {
      std::this_thread::yield();
      continue;
    }
    ASSERT_EQ(channel.receive(items), message);
    ASSERT_EQ(items, std::vector<std::uint64_t>(rng.below(8), static_cast<std::uint64_t>(message)));
    ++message;
  }
  sender.join();
}

}  // namespace
}  // namespace gimbal::comm
