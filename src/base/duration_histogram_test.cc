#include "base/duration_histogram.h"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>

namespace gimbal {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::uint64_t total(const DurationHistogram::Reading& reading) {
  return std::accumulate(reading.counts.begin(), reading.counts.end(), std::uint64_t{0});
}

TEST(DurationHistogram, BoundsAreOneTwoFiveFromAMicrosecondToTenSeconds) {
  EXPECT_EQ(DurationHistogram::kBounds.front(), microseconds(1));
  EXPECT_EQ(DurationHistogram::kBounds[1], microseconds(2));
  EXPECT_EQ(DurationHistogram::kBounds[2], microseconds(5));
  EXPECT_EQ(DurationHistogram::kBounds[3], microseconds(10));
  EXPECT_EQ(DurationHistogram::kBounds[20], seconds(5));
  EXPECT_EQ(DurationHistogram::kBounds.back(), seconds(10));
}

TEST(DurationHistogram, ABoundBelongsToItsBucket) {
  DurationHistogram histogram;
  histogram.record(Duration{0});
  histogram.record(microseconds(1));
  histogram.record(microseconds(1) + Duration{1});
  histogram.record(milliseconds(3));  // above 2 ms: the bucket up to 5 ms
  histogram.record(seconds(10));
  histogram.record(seconds(10) + Duration{1});
  const DurationHistogram::Reading reading = histogram.read();
  EXPECT_EQ(reading.counts[0], 2U);
  EXPECT_EQ(reading.counts[1], 1U);
  EXPECT_EQ(reading.counts[11], 1U);
  EXPECT_EQ(reading.counts[21], 1U);
  EXPECT_EQ(reading.counts[22], 1U);
  EXPECT_EQ(total(reading), 6U);
  EXPECT_EQ(reading.sum, seconds(20) + milliseconds(3) + microseconds(2) + Duration{2});
}

// A clock's steps backwards are no reason to lose a record or to write beside the buckets.
TEST(DurationHistogram, NegativeDurationsAreInTheFirstBucket) {
  DurationHistogram histogram;
  histogram.record(Duration{-5});
  EXPECT_EQ(histogram.read().counts[0], 1U);
}

TEST(DurationHistogram, ReadersSeeCountsThatOnlyRise) {
  DurationHistogram histogram;
  constexpr std::uint64_t kRecords = 20'000;
  std::jthread writer([&] {  // joined whatever fails
    for (std::uint64_t i = 0; i < kRecords; ++i)
      histogram.record(Duration{static_cast<Duration::rep>(i) * 1000});
  });
  std::uint64_t last = 0;
  while (last < kRecords) {
    const std::uint64_t seen = total(histogram.read());
    ASSERT_GE(seen, last);
    last = seen;
    std::this_thread::yield();
  }
  writer.join();
  EXPECT_EQ(histogram.read().sum, Duration{1000 * (kRecords * (kRecords - 1) / 2)});
}

}  // namespace
}  // namespace gimbal
