#include "checkpoint/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/random.h"
#include "base/temporary_folder.h"
#include "checkpoint/shard_writer.h"

namespace gimbal::checkpoint {
namespace {

namespace fs = std::filesystem;
using tensor::DType;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

std::string file_of(std::string_view header, std::size_t data_bytes) {
  std::string file;
  for (int i = 0; i < 8; ++i) {
    file.push_back(static_cast<char>((std::uint64_t{header.size()} >> (8 * i)) & 0xff));
  }
  return file.append(header).append(data_bytes, 'x');
}

Result<SafetensorsHeader> parse(const std::string& file) {
  return parse_safetensors(std::as_bytes(std::span(file)));
}
Result<SafetensorsHeader> parse(std::string_view header, std::size_t data_bytes) {
  return parse(file_of(header, data_bytes));
}

std::string message_of(const Result<SafetensorsHeader>& result) {
  return result.ok() ? "accepted" : result.error().message;
}

TEST(SafetensorsTest, ReadsTensorsInTheOrderOfTheirData) {
  const auto header = parse(R"({"__metadata__": {"format": "pt"},
      "z": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
      "empty": {"dtype": "F32", "shape": [3, 0], "data_offsets": [8, 8]},
      "a": {"dtype": "BF16", "shape": [3], "data_offsets": [8, 14]},
      "scalar": {"dtype": "F16", "shape": [], "data_offsets": [14, 16]},
      "ids": {"dtype": "I64", "shape": [1], "data_offsets": [16, 24]},
      "packed": {"dtype": "F4", "shape": [2, 3], "data_offsets": [24, 27]}}   )",
                            27);
  ASSERT_TRUE(header.ok()) << header.error().message;
  EXPECT_THAT(header->metadata, ElementsAre(Pair("format", "pt")));
  std::vector<std::string> names;
  for (const auto& tensor : header->tensors)
    names.push_back(tensor.name);
  EXPECT_THAT(names, ElementsAre("z", "empty", "a", "scalar", "ids", "packed"));
  const TensorEntry& a = header->tensors[2];
  EXPECT_EQ(a.type.dtype, DType::kBF16);
  EXPECT_THAT(a.shape, ElementsAre(3));
  EXPECT_EQ(a.offset, header->data_offset + 8);
  EXPECT_EQ(a.bytes, 6U);
  EXPECT_EQ(header->tensors[4].type.dtype, std::nullopt);
  EXPECT_EQ(header->tensors[4].type.name, "I64");
}

TEST(SafetensorsTest, AcceptsAFileWithoutTensors) {
  EXPECT_EQ(message_of(parse("{}", 0)), "accepted");
}

TEST(SafetensorsTest, RefusesHeadersThatDoNotFit) {
  EXPECT_THAT(message_of(parse(std::string("1234567"))), HasSubstr("at least 8 bytes, this one 7"));
  std::string file = file_of("{}", 0);
  file[0] = 3;
  EXPECT_THAT(message_of(parse(file)), HasSubstr("header of 3 bytes does not fit"));
  file[7] = '\x7f';
  EXPECT_THAT(message_of(parse(file)), HasSubstr("at most 100000000 bytes"));
  file.assign(8, '\xff');
  EXPECT_THAT(message_of(parse(file)), HasSubstr("18446744073709551615"));
}

TEST(SafetensorsTest, RefusesHeadersThatAreNotJson) {
  EXPECT_THAT(message_of(parse("", 0)), HasSubstr("begin with {"));
  EXPECT_THAT(message_of(parse(" {}", 0)), HasSubstr("begin with {"));
  EXPECT_THAT(message_of(parse("[]", 0)), HasSubstr("begin with {"));
  EXPECT_THAT(message_of(parse("{", 0)), HasSubstr("JSON"));
  EXPECT_THAT(message_of(parse("{}{}", 0)), HasSubstr("JSON"));
  EXPECT_THAT(message_of(parse("{\"\xff\": 1}", 0)), HasSubstr("JSON"));
  EXPECT_THAT(message_of(parse(R"({"a": {"b": [[1]]}})", 0)), HasSubstr("nested deeper than 3"));
  EXPECT_THAT(message_of(parse(R"({"a": {"dtype":"U8","shape":[0],"data_offsets":[0,0]},
                                   "a": {"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
                               0)),
              HasSubstr("key twice: a"));
}

TEST(SafetensorsTest, RefusesMetadataThatIsNotStrings) {
  EXPECT_THAT(message_of(parse(R"({"__metadata__": {"step": 7}})", 0)), HasSubstr("\"step\" is 7"));
  EXPECT_THAT(message_of(parse(R"({"__metadata__": []})", 0)), HasSubstr("must be an object"));
}

struct BadTensor {
  const char* json;
  const char* message;
};

TEST(SafetensorsTest, RefusesTensorsThatBreakTheFormat) {
  const BadTensor cases[] = {
      {R"(7)", R"(tensor "t" must be an object, is 7)"},
      {R"({"shape": [4], "data_offsets": [0, 4]})", "dtype must be an element type"},
      {R"({"dtype": "F99", "shape": [4], "data_offsets": [0, 4]})", "is \"F99\""},
      {R"({"dtype": 3, "shape": [4], "data_offsets": [0, 4]})", "dtype must be a string"},
      {R"({"dtype": "U8", "data_offsets": [0, 4]})", "shape must be a list"},
      {R"({"dtype": "U8", "shape": 4, "data_offsets": [0, 4]})", "shape must be a list"},
      {R"({"dtype": "U8", "shape": [-4], "data_offsets": [0, 4]})", "is [-4]"},
      {R"({"dtype": "U8", "shape": [4.0], "data_offsets": [0, 4]})", "is [4.0]"},
      {R"({"dtype": "U8", "shape": [true], "data_offsets": [0, 4]})", "is [true]"},
      {R"({"dtype": "U8", "shape": [18446744073709551615], "data_offsets": [0, 4]})", "0 or more"},
      {R"({"dtype": "U8", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]})", "64 bits"},
      {R"({"dtype": "F64", "shape": [288230376151711745], "data_offsets": [0, 64]})", "64 bits"},
      {R"({"dtype": "F4", "shape": [7], "data_offsets": [0, 4]})", "whole bytes of F4"},
      {R"({"dtype": "U8", "shape": [4]})", "data_offsets must be two"},
      {R"({"dtype": "U8", "shape": [4], "data_offsets": [0]})", "data_offsets must be two"},
      {R"({"dtype": "U8", "shape": [4], "data_offsets": [0, 4, 8]})", "data_offsets must be two"},
      {R"({"dtype": "U8", "shape": [4], "data_offsets": [0, 4.0]})", "data_offsets must be two"},
      {R"({"dtype": "U8", "shape": [4], "data_offsets": [4, 0]})", "ascending"},
      {R"({"dtype": "U8", "shape": [4], "data_offsets": [-4, 0]})", "from 0 to 4"},
      {R"({"dtype": "U8", "shape": [8], "data_offsets": [0, 8]})", "from 0 to 4, is [0,8]"},
      {R"({"dtype": "U8", "shape": [4], "data_offsets": [0, 18446744073709551615]})",
       "from 0 to 4"},
      {R"({"dtype": "U8", "shape": [3], "data_offsets": [0, 4]})", "3 bytes apart"},
      {R"({"dtype": "F32", "shape": [4], "data_offsets": [0, 4]})", "16 bytes apart"},
      {R"({"dtype": "U8", "shape": [4], "data_offsets": [0, 4], "stride": [1]})", "stride must be"},
  };
  for (const auto& [json, message] : cases) {
    const auto result = parse(fmt::format(R"({{"t": {}}})", json), 4);
    EXPECT_THAT(message_of(result), HasSubstr(message)) << json;
    EXPECT_THAT(message_of(result), HasSubstr("tensor \"t\"")) << json;
  }
}

TEST(SafetensorsTest, RefusesHolesOverlapsAndUncoveredBytes) {
  const auto two = [](int a0, int a1, int b0, int b1, std::size_t data) {
    return message_of(
        parse(fmt::format(R"({{"a":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}},)"
                          R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                          a1 - a0, a0, a1, b1 - b0, b0, b1),
              data));
  };
  EXPECT_EQ(two(0, 4, 4, 8, 8), "accepted");
  EXPECT_EQ(two(4, 8, 0, 4, 8), "accepted");
  EXPECT_THAT(two(0, 4, 3, 8, 8), HasSubstr("overlap"));
  EXPECT_THAT(two(0, 4, 0, 8, 8), HasSubstr("overlap"));
  EXPECT_THAT(two(0, 8, 2, 4, 8), HasSubstr("overlap"));
  EXPECT_THAT(two(0, 4, 5, 8, 8), HasSubstr("hole"));
  EXPECT_THAT(two(1, 4, 4, 8, 8), HasSubstr("hole"));
  EXPECT_THAT(two(0, 4, 4, 8, 9), HasSubstr("tensors end at byte"));
}

class SafetensorsFileTest : public testing::Test {
 protected:
  std::string write(std::string_view bytes) const {
    const std::string path = dir_ + "/model.safetensors";
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }

  TemporaryFolder folder_;
  const std::string dir_ = folder_.path();
};

TEST_F(SafetensorsFileTest, GivesManyThreadsTheBytesThatWereWritten) {
  constexpr std::size_t kElements = 300'000;
  std::vector<std::uint16_t> values(kElements);
  Rng rng(7);
  for (auto& value : values)
    value = static_cast<std::uint16_t>(rng());
  auto writer =
      ShardWriter::create(dir_, {{"first", DType::kF32, {5}}, {"big", DType::kBF16, {kElements}}});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE(writer->append(std::vector<std::byte>(20)).ok());
  ASSERT_TRUE(writer->append(std::as_bytes(std::span(values))).ok());
  ASSERT_TRUE(writer->finish().ok());

  const auto file = SafetensorsFile::open(dir_ + "/model.safetensors");
  ASSERT_TRUE(file.ok()) << file.error().message;
  const TensorEntry& big = file->header().tensors[1];
  std::vector<std::uint16_t> got(kElements);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::size_t begin = t * kElements / 4;
      const auto part = std::span(got).subspan(begin, kElements / 4);
      EXPECT_TRUE(file->read(big, begin * 2, std::as_writable_bytes(part)).ok());
    });
  }
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(got, values);
}

TEST_F(SafetensorsFileTest, NamesFileAndTensorWhenTheFileShrinksWhileItIsRead) {
  const std::string path =
      write(file_of(R"({"w": {"dtype": "U8", "shape": [100], "data_offsets": [0, 100]}})", 100));
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file.ok()) << file.error().message;
  std::vector<std::byte> out(100);
  ASSERT_TRUE(file->read(file->header().tensors[0], 0, out).ok());
  fs::resize_file(path, fs::file_size(path) - 1);
  const auto read = file->read(file->header().tensors[0], 0, out);
  ASSERT_FALSE(read.ok());
  EXPECT_THAT(read.error().message, HasSubstr("tensor \"w\""));
  EXPECT_THAT(read.error().message, HasSubstr(path));
}

TEST_F(SafetensorsFileTest, RefusesTruncatedFilesAtEveryLength) {
  const std::string whole =
      file_of(R"({"w": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}})", 9);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const auto file = SafetensorsFile::open(write(whole.substr(0, length)));
    ASSERT_FALSE(file.ok()) << length;
    EXPECT_THAT(file.error().message, HasSubstr("model.safetensors"));
  }
  EXPECT_TRUE(SafetensorsFile::open(write(whole)).ok());
}

TEST_F(SafetensorsFileTest, RefusesWhatIsNotARegularFile) {
  EXPECT_FALSE(SafetensorsFile::open(dir_ + "/absent.safetensors").ok());
  EXPECT_FALSE(SafetensorsFile::open(dir_).ok());
  EXPECT_FALSE(SafetensorsFile::open("/dev/zero").ok());
}

}  // namespace
}  // namespace gimbal::checkpoint
