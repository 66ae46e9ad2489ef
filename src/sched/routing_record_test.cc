#include "sched/routing_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <sstream>

#include "base/random.h"

namespace gimbal::sched {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const RoutingRecordHeader kHeader{
    .model_hash = 0x1122334455667788, .layers = 4, .experts = 300, .k = 2};

// Two rows.
std::string small_record() {
  std::ostringstream out;
  RoutingRecordWriter writer(out, kHeader);
  writer.add(RequestId{9}, 5, Rank{1}, LayerIndex{3}, std::vector<std::int32_t>{299, 2});
  writer.add(RequestId{10}, 6, Rank{0}, LayerIndex{0}, std::vector<std::int32_t>{0, 1});
  writer.flush();
  return out.str();
}

// Reads until the end or an error.
Result<std::vector<RoutingRow>> read_all(const std::string& text) {
  std::istringstream in(text);
  GIMBAL_ASSIGN_OR_RETURN(RoutingRecordReader reader, RoutingRecordReader::open(in));
  std::vector<RoutingRow> rows;
  RoutingRow row;
  while (true) {
    GIMBAL_ASSIGN_OR_RETURN(const bool more, reader.next(row));
    if (!more) break;
    rows.push_back(row);
  }
  EXPECT_EQ(reader.rows(), rows.size());
  return rows;
}

TEST(RoutingRecord, TheFormatIsLittleEndianAndSideBySide) {
  const std::string expected(
      "GIMBALRT"
      "\x01\x00"
      "\x88\x77\x66\x55\x44\x33\x22\x11"
      "\x04\x00\x2c\x01\x02\x00"
      "\x09\x00\x00\x00\x00\x00\x00\x00"
      "\x05\x00\x00\x00\x01\x00\x03\x00"
      "\x2b\x01\x02\x00"
      "\x0a\x00\x00\x00\x00\x00\x00\x00"
      "\x06\x00\x00\x00\x00\x00\x00\x00"
      "\x00\x00\x01\x00",
      24 + 2 * 20);
  EXPECT_EQ(small_record(), expected);
}

TEST(RoutingRecord, WhatIsWrittenReadsBack) {
  Rng rng(1);
  for (int trial = 0; trial < 20; ++trial) {
    RoutingRecordHeader header{.model_hash = rng(),
                               .layers = static_cast<int>(rng.between(1, 65'535)),
                               .experts = static_cast<int>(rng.between(1, 600))};
    header.k = static_cast<int>(rng.between(1, std::min(header.experts, 16)));
    std::vector<std::int32_t> experts(static_cast<std::size_t>(header.experts));
    std::iota(experts.begin(), experts.end(), 0);
    std::vector<RoutingRow> written(rng.below(5000));
    std::ostringstream out;
    {
      RoutingRecordWriter writer(out, header);
      for (RoutingRow& row : written) {
        for (std::size_t i = 0; i < static_cast<std::size_t>(header.k); ++i)
          std::swap(experts[i], experts[i + rng.below(experts.size() - i)]);
        row = {
            .request = RequestId{rng()},
            .position = static_cast<std::uint32_t>(rng()),
            .source = Rank{static_cast<int>(rng.below(65'536))},
            .layer =
                LayerIndex{static_cast<int>(rng.below(static_cast<std::uint64_t>(header.layers)))},
            .experts = {experts.begin(), experts.begin() + header.k}};
        writer.add(row.request, row.position, row.source, row.layer,
                   std::span(experts).first(static_cast<std::size_t>(header.k)));
      }
      EXPECT_EQ(writer.rows(), written.size());
    }
    std::istringstream in(out.str());
    EXPECT_EQ(RoutingRecordReader::open(in).value().header(), header);
    const auto read = read_all(out.str());
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(*read, written);
  }
}

TEST(RoutingRecord, ARecordWithoutRowsIsWhole) {
  EXPECT_THAT(read_all(small_record().substr(0, 24)).value(), ElementsAre());
}

TEST(RoutingRecord, EveryTruncationIsTold) {
  const std::string whole = small_record();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto rows = read_all(whole.substr(0, size));
    if (size == 24 || size == 44) {
      EXPECT_TRUE(rows.ok()) << size;
      continue;
    }
    ASSERT_FALSE(rows.ok()) << size;
    EXPECT_EQ(rows.error().code, ErrorCode::kInvalidArgument);
    const char* field = size < 8 ? "magic" : size < 24 ? "header" : "row";
    EXPECT_EQ(rows.error().field, field) << size;
    if (size > 24) {
      EXPECT_THAT(rows.error().message, HasSubstr(size < 44 ? "row 0: " : "row 1: "));
      EXPECT_THAT(rows.error().message, HasSubstr("must have 20 bytes, has"));
    }
  }
}

TEST(RoutingRecord, WrongFieldsAreNamedWithTheirRow) {
  struct Case {
    std::size_t at;
    std::string bytes;
    std::string field;
    std::string message;
  };
  const std::vector<Case> cases = {
      {0, "g", "magic", "magic"},
      {8, {"\x02\x00", 2}, "version", "version must be 1, is 2"},
      {9, "\x01", "version", "is 257"},
      {18, {"\x00\x00", 2}, "layers", "layers must be at least 1"},
      {20, {"\x00\x00", 2}, "experts", "experts must be at least 1"},
      {22, {"\x00\x00", 2}, "k", "k must be from 1 to 300, is 0"},
      {22, {"\x2d\x01", 2}, "k", "k must be from 1 to 300, is 301"},
      {24 + 14, "\x04", "layer", "row 0: layer must be from 0 to 3, is 4"},
      {24 + 16, "\x2c", "expert", "row 0: expert must be from 0 to 299, is 300"},
      {44 + 15, "\xff", "layer", "row 1: layer must be from 0 to 3, is 65280"},
      {44 + 18, {"\x00\x00", 2}, "expert", "row 1: expert must be given once, is given twice: 0"},
      {44 + 18, {"\xff\xff", 2}, "expert", "row 1: expert must be from 0 to 299, is 65535"},
  };
  for (const Case& wrong : cases) {
    std::string text = small_record();
    text.replace(wrong.at, wrong.bytes.size(), wrong.bytes);
    const auto rows = read_all(text);
    ASSERT_FALSE(rows.ok()) << wrong.message;
    EXPECT_EQ(rows.error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(rows.error().field, wrong.field) << wrong.message;
    EXPECT_THAT(rows.error().message, HasSubstr(wrong.message));
  }
}

TEST(RoutingRecord, RandomBytesAreReadOrRefused) {
  Rng rng(2);
  for (int trial = 0; trial < 3000; ++trial) {
    std::string text = small_record();
    for (std::uint64_t changes = 1 + rng.below(4); changes > 0; --changes)
      text[rng.below(text.size())] = static_cast<char>(rng());
    text.resize(rng.below(text.size() + 20));
    const auto rows = read_all(text);
    if (!rows.ok()) {
      EXPECT_FALSE(rows.error().field.empty());
    }
  }
}

TEST(RoutingRecord, AStreamThatFailsIsAnError) {
  std::istringstream in(small_record());
  in.setstate(std::ios::badbit);
  EXPECT_EQ(RoutingRecordReader::open(in).error().code, ErrorCode::kIo);
  std::istringstream later(small_record());
  RoutingRecordReader reader = RoutingRecordReader::open(later).value();
  later.setstate(std::ios::badbit);
  RoutingRow row;
  EXPECT_EQ(reader.next(row).error().code, ErrorCode::kIo);
}

TEST(RoutingRecord, AWriterLeavesErrorsToTheStreamsOwner) {
  std::ostringstream out;
  RoutingRecordWriter writer(out, kHeader);
  out.setstate(std::ios::badbit);
  for (int i = 0; i < 10'000; ++i)
    writer.add(RequestId{1}, 1, Rank{1}, LayerIndex{1}, std::vector<std::int32_t>{1, 2});
  writer.flush();
  EXPECT_TRUE(out.bad());
  EXPECT_EQ(out.str(), "");
}

using RoutingRecordDeathTest = testing::Test;

TEST(RoutingRecordDeathTest, MisuseAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::ostringstream out;
  RoutingRecordWriter writer(out, kHeader);
  const std::vector<std::int32_t> two = {0, 1};
  const std::vector<std::int32_t> one = {0};
  EXPECT_DEATH(writer.add(RequestId{1}, 1, Rank{1}, LayerIndex{4}, two), "");
  EXPECT_DEATH(writer.add(RequestId{1}, 1, Rank{-1}, LayerIndex{1}, two), "");
  EXPECT_DEATH(writer.add(RequestId{1}, 1, Rank{1}, LayerIndex{1}, one), "");
  EXPECT_DEATH(RoutingRecordWriter(out, {.layers = 1, .experts = 2, .k = 3}), "");
}

}  // namespace
}  // namespace gimbal::sched
