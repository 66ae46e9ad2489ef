#include "base/published.h"

#include <gtest/gtest.h>

#include <optional>
#include <thread>
#include <vector>

namespace gimbal {
namespace {

struct Reading {
  std::uint64_t number = 0;
  std::optional<double> half;
  std::array<std::uint64_t, 60> copies{};
  char tail = 0;  // the size is no multiple of a word
};

Reading reading(std::uint64_t number) {
  Reading all{.number = number, .tail = static_cast<char>(number % 100)};
  if (number % 2 == 0) all.half = static_cast<double>(number) / 2;
  all.copies.fill(number);
  return all;
}

// Whether all of it is of one publication.
bool whole(const Reading& all) {
  const Reading wanted = reading(all.number);
  return all.half == wanted.half && all.copies == wanted.copies && all.tail == wanted.tail;
}

TEST(Published, HoldsADefaultValueThenTheLast) {
  Published<Reading> published;
  EXPECT_EQ(published.read().number, 0U);
  EXPECT_EQ(published.read().half, std::nullopt);
  published.publish(reading(7));
  published.publish(reading(8));
  EXPECT_EQ(published.read().half, 4);
  EXPECT_TRUE(whole(published.read()));
}

TEST(Published, ReadersSeeWholeValuesThatNeverGoBack) {
  constexpr std::uint64_t kLast = 20'000;
  Published<Reading> published;
  published.publish(reading(1));
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      std::uint64_t newest = 0;
      while (newest < kLast) {
        const Reading got = published.read();
        ASSERT_TRUE(whole(got)) << got.number;
        ASSERT_GE(got.number, newest);
        newest = got.number;
      }
    });
  }
  for (std::uint64_t number = 2; number <= kLast; ++number)
    published.publish(reading(number));
  for (std::thread& reader : readers)
    reader.join();
}

}  // namespace
}  // namespace gimbal
