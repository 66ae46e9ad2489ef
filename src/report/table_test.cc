#include "report/table.h"

#include <gtest/gtest.h>

namespace gimbal::report {
namespace {

TEST(Table, WritesAlignedMarkdown) {
  Table table({"name", "ms"});
  table.add_row({Cell::of_text("vllm"), Cell::of_number(12.345)});
  table.add_row({Cell::of_text("gimbal"), Cell::absent()});
  EXPECT_EQ(table.to_markdown(),
            "| name   |    ms |\n"
            "|--------|------:|\n"
            "| vllm   | 12.35 |\n"
            "| gimbal |     – |\n");
}

TEST(Table, EscapesWhatWouldBreakARow) {
  Table table({"a|b"});
  table.add_row({Cell::of_text("x|y\nz")});
  EXPECT_EQ(table.to_markdown(), "| a\\|b   |\n|--------|\n| x\\|y z |\n");
}

TEST(Table, WithoutRowsHasItsHead) {
  EXPECT_EQ(Table({"a"}).to_markdown(), "| a   |\n|-----|\n");
  EXPECT_EQ(Table({"a"}).to_json().dump(), "[]");
}

TEST(Table, WritesValuesAsJson) {
  Table table({"name", "n", "x", "change", "none"});
  table.add_row({Cell::of_text("a"), Cell::of_count(3), Cell::of_interval({2.0, 1.5, 2.5}, 1),
                 Cell::of_change(0.7), Cell::absent()});
  EXPECT_EQ(table.to_json().dump(), R"([{"change":0.7,"n":3,"name":"a","none":null,)"
                                    R"("x":{"estimate":2.0,"high":2.5,"low":1.5}}])");
}

TEST(Cell, ShowsRatiosAsChanges) {
  EXPECT_EQ(Cell::of_change(0.7).text, "−30.0 %");
  EXPECT_EQ(Cell::of_change(1.031).text, "+3.1 %");
  EXPECT_EQ(Cell::of_change(0.9999).text, "0.0 %");
  EXPECT_EQ(Cell::of_change(Interval{0.5, 0.4, 1.1}).text, "−50.0 % [−60.0 %, +10.0 %]");
  EXPECT_EQ(Cell::of_interval({2.0, 1.25, 3.0}, 2).text, "2.00 [1.25, 3.00]");
}

}  // namespace
}  // namespace gimbal::report
