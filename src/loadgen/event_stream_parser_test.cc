#include "loadgen/event_stream_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace gimbal::loadgen {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> events_of(std::string_view text, std::size_t piece = 1 << 20) {
  EventStreamParser parser;
  std::vector<std::string> events;
  while (!text.empty()) {
    const auto some = text.substr(0, piece);
    const auto put = parser.put(some, [&](std::string_view data) { events.emplace_back(data); });
    EXPECT_TRUE(put.ok());
    text.remove_prefix(some.size());
  }
  return events;
}

TEST(EventStreamParser, ReadsEventsHoweverTheyAreCut) {
  constexpr std::string_view kText =
      ": comment\n\ndata: {\"a\":1}\n\nid: 3\r\ndata:two\r\n\r\ndata: x\ndata: y\nevent: e\n\n"
      "database: no\n\ndata\n\ndata: [DONE]\n\ndata: cut off";
  for (std::size_t piece = 1; piece <= kText.size(); ++piece) {
    EXPECT_THAT(events_of(kText, piece), ElementsAre("{\"a\":1}", "two", "x\ny", "", "[DONE]"))
        << piece;
  }
}

TEST(EventStreamParser, OfNothingHasNoEvents) {
  EXPECT_THAT(events_of(""), IsEmpty());
  EXPECT_THAT(events_of("\n\n\r\n\n"), IsEmpty());
  EXPECT_THAT(events_of("data: never ended\n"), IsEmpty());
}

TEST(EventStreamParser, BoundsAnEvent) {
  const std::string megabyte(1 << 20, 'x');
  const auto ignore = [](std::string_view) {};
  EventStreamParser endless_line;
  bool refused = false;
  for (int i = 0; i < 20 && !refused; ++i)
    refused = !endless_line.put(megabyte, ignore).ok();
  EXPECT_TRUE(refused);
  EventStreamParser endless_event;
  refused = false;
  for (int i = 0; i < 20 && !refused; ++i) {
    refused = !endless_event.put("data: " + megabyte + "\n", ignore).ok();
  }
  EXPECT_TRUE(refused);
}

TEST(EventStreamParser, TakesAnyBytes) {
  Rng rng(2);
  constexpr std::string_view kBytes = "data: \r\n\n:x\xFF";
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (std::uint64_t i = rng.below(60); i > 0; --i)
      text += kBytes[rng.below(kBytes.size())];
    EXPECT_EQ(events_of(text, 1 + rng.below(10)), events_of(text));
  }
}

}  // namespace
}  // namespace gimbal::loadgen
