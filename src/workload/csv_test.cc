#include "workload/csv.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace gimbal::workload {
namespace {

TEST(Csv, ReadsRowsByColumnName) {
  auto reader = CsvReader::open(
      "\xEF\xBB\xBF"
      "a, B ,c\r\n1,2,3\r\n\r\n4,5,6");
  ASSERT_TRUE(reader.ok());
  EXPECT_TRUE(reader->has_column("b"));
  EXPECT_FALSE(reader->has_column("d"));
  EXPECT_EQ(reader->column("d").error().field, "d");
  const std::size_t b = reader->column("b").value();
  ASSERT_TRUE(reader->next().value());
  EXPECT_EQ(reader->integer(b, 0, 10).value(), 2);
  ASSERT_TRUE(reader->next().value());
  EXPECT_EQ(reader->line(), 4u);
  EXPECT_EQ(reader->text(reader->column("A").value()), "4");
  EXPECT_FALSE(reader->next().value());
}

TEST(Csv, UnderstandsQuotes) {
  auto reader = CsvReader::open("x,y\n\"a,\"\"b\"\"\nc\",2\n3,4\n");
  ASSERT_TRUE(reader.ok());
  ASSERT_TRUE(reader->next().value());
  EXPECT_EQ(reader->text(0), "a,\"b\"\nc");
  EXPECT_EQ(reader->line(), 2u);
  ASSERT_TRUE(reader->next().value());
  EXPECT_EQ(reader->line(), 4u);
}

TEST(Csv, NamesLineAndColumn) {
  auto reader = CsvReader::open("time,tokens\n0.5,12\n1e999,-3\n x ,1.5\n");
  ASSERT_TRUE(reader.ok());
  ASSERT_TRUE(reader->next().value());
  EXPECT_EQ(reader->number(0, 0, 1).value(), 0.5);
  ASSERT_TRUE(reader->next().value());
  EXPECT_EQ(reader->number(0, 0, 1).error().message,
            "line 3, column time: must be a number from 0 to 1, is '1e999'");
  EXPECT_EQ(reader->integer(1, 1, 10).error().field, "tokens");
  ASSERT_TRUE(reader->next().value());
  EXPECT_FALSE(reader->number(0, 0, 1).ok());
  EXPECT_FALSE(reader->integer(1, 1, 10).ok());
}

TEST(Csv, RefusesBrokenText) {
  EXPECT_FALSE(CsvReader::open("").ok());
  EXPECT_FALSE(CsvReader::open("\n\n").ok());
  EXPECT_FALSE(CsvReader::open("a,A\n").ok());
  EXPECT_FALSE(CsvReader::open("a,\"b").ok());
  EXPECT_FALSE(CsvReader::open("a,b\"c\n").ok());
  EXPECT_FALSE(CsvReader::open("a,\"b\"x\n").ok());
  auto reader = CsvReader::open("a,b\n1\n1,2,3\n\"1\"x\",2\n");
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(reader->next().error().message,
            "line 2, column b: is missing: the row has 1 fields, the header has 2");
  EXPECT_EQ(reader->next().error().message,
            "line 3, column 3: is one too many: the row has 3 fields, the header has 2");
  EXPECT_FALSE(reader->next().ok());
  auto quotes = CsvReader::open("\n\na,b\n1,2\n3,\"4\n");
  ASSERT_TRUE(quotes.ok());
  EXPECT_TRUE(quotes->next().value());
  EXPECT_EQ(quotes->column("c").error().message, "line 3: there is no column c");
  EXPECT_EQ(quotes->next().error().message, "line 5, column b: a quote does not close");
  EXPECT_EQ(CsvReader::open("a,\"b").error().message, "line 1, column 2: a quote does not close");
  EXPECT_EQ(CsvReader::open("a,b\n1,2,\"")->next().error().message,
            "line 2, column 3: a quote does not close");
  const std::string long_name(100, 'n');
  EXPECT_EQ(CsvReader::open(long_name + "\n1\"\n")->next().error().message,
            "line 2, column " + std::string(60, 'n') + "…: a quote inside a field");
  for (const char* number : {"", "nan", "inf", "1 2", "0x10", "1,", "+1"}) {
    const std::string text = "n\n\"" + std::string(number) + "\"\n";
    auto one = CsvReader::open(text);
    ASSERT_TRUE(one.ok());
    if (!one->next().value()) continue;
    EXPECT_FALSE(one->number(0, -1e9, 1e9).ok()) << number;
  }
}

TEST(Csv, EndsOnEveryText) {
  Rng rng(8);
  constexpr std::string_view kBytes = "ab1,,\n\r\" \xEF";
  for (int round = 0; round < 5000; ++round) {
    std::string text;
    for (std::uint64_t i = rng.below(40); i > 0; --i)
      text += kBytes[rng.below(kBytes.size())];
    auto reader = CsvReader::open(text);
    if (!reader.ok()) continue;
    std::size_t rows = 0;
    while (true) {
      const auto more = reader->next();
      if (!more.ok() || !*more) break;
      ASSERT_LE(++rows, text.size());
    }
  }
}

}  // namespace
}  // namespace gimbal::workload
