#include "checkpoint/shard_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "base/temporary_folder.h"

namespace gimbal::checkpoint {
namespace {

namespace fs = std::filesystem;
using tensor::DType;
using testing::ElementsAre;
using testing::HasSubstr;

class ShardWriterTest : public testing::Test {
 protected:
  static std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(dir_)) {
      out.push_back(entry.path().filename().string());
    }
    std::ranges::sort(out);
    return out;
  }
  // Every tensor's bytes are 1, 2, 3, … from its own start, given in pieces of `piece` bytes.
  static void write_all(ShardWriter& writer, std::size_t piece) {
    while (const TensorSpec* spec = writer.current()) {
      std::vector<std::byte> data(spec->bytes());
      for (std::size_t i = 0; i < data.size(); ++i)
        data[i] = static_cast<std::byte>(i + 1);
      for (std::size_t at = 0; at < data.size(); at += piece) {
        const auto count = std::min(piece, data.size() - at);
        ASSERT_TRUE(writer.append(std::span(data).subspan(at, count)).ok());
      }
    }
  }

  TemporaryFolder folder_;
  const std::string dir_ = folder_.path("model");
};

TEST_F(ShardWriterTest, WritesOneFileWithoutIndexAsTheFormatDescribes) {
  auto writer = ShardWriter::create(
      dir_, {{"b", DType::kF32, {2, 1}}, {"a", DType::kBF16, {3}}, {"empty", DType::kF16, {0, 4}}});
  ASSERT_TRUE(writer.ok()) << writer.error().message;
  write_all(*writer, 3);
  ASSERT_TRUE(writer->finish().ok());
  EXPECT_THAT(names(), ElementsAre("model.safetensors"));

  const std::string file = read_file(dir_ + "/model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  EXPECT_EQ(length % 8, 0U);
  const Json header = Json::parse(file.substr(8, length));
  EXPECT_EQ(header, Json::parse(R"({"__metadata__": {"format": "pt"},
      "b": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
      "a": {"dtype": "BF16", "shape": [3], "data_offsets": [8, 14]},
      "empty": {"dtype": "F16", "shape": [0, 4], "data_offsets": [14, 14]}})"));
  EXPECT_EQ(file.substr(8 + length), "\1\2\3\4\5\6\7\10\1\2\3\4\5\6");
}

TEST_F(ShardWriterTest, ClosesAShardBeforeItGrowsTooLarge) {
  auto writer = ShardWriter::create(dir_,
                                    {{"a", DType::kF32, {2}},
                                     {"b", DType::kF32, {2}},
                                     {"c", DType::kF32, {8}},
                                     {"d", DType::kF32, {1}}},
                                    {.max_shard_bytes = 16});
  ASSERT_TRUE(writer.ok()) << writer.error().message;
  EXPECT_EQ(writer->shards(), 3);
  EXPECT_EQ(writer->total_bytes(), 52U);
  write_all(*writer, 5);
  ASSERT_TRUE(writer->finish().ok());
  EXPECT_THAT(names(),
              ElementsAre("model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                          "model-00003-of-00003.safetensors", "model.safetensors.index.json"));
  EXPECT_EQ(Json::parse(read_file(dir_ + "/model.safetensors.index.json")),
            Json::parse(R"({"metadata": {"total_size": 52}, "weight_map": {
                "a": "model-00001-of-00003.safetensors", "b": "model-00001-of-00003.safetensors",
                "c": "model-00002-of-00003.safetensors", "d": "model-00003-of-00003.safetensors"}})"));
}

TEST_F(ShardWriterTest, SameDataGivesSameBytesWhateverThePieces) {
  const std::vector<TensorSpec> specs = {{"a", DType::kBF16, {700'000}},
                                         {"b", DType::kF32, {1'000}}};
  std::vector<std::string> files;
  for (const std::size_t piece :
       {std::size_t{1'000}, std::size_t{1} << 20, std::size_t{9'999'999}}) {
    auto writer = ShardWriter::create(dir_, specs, {.overwrite = true});
    ASSERT_TRUE(writer.ok()) << writer.error().message;
    write_all(*writer, piece);
    ASSERT_TRUE(writer->finish().ok());
    files.push_back(read_file(dir_ + "/model.safetensors"));
  }
  EXPECT_GT(files[0].size(), 1'404'000U);
  EXPECT_EQ(files[0], files[1]);
  EXPECT_EQ(files[0], files[2]);
}

TEST_F(ShardWriterTest, ShowsNothingUnderRealNamesBeforeFinish) {
  {
    auto writer = ShardWriter::create(dir_, {{"a", DType::kF32, {2}}, {"b", DType::kF32, {2}}},
                                      {.max_shard_bytes = 8});
    ASSERT_TRUE(writer.ok());
    write_all(*writer, 8);
    EXPECT_THAT(names(), ElementsAre("model-00001-of-00002.safetensors.partial",
                                     "model-00002-of-00002.safetensors.partial"));
  }
  EXPECT_THAT(names(), ElementsAre()) << "an abandoned writer leaves nothing behind";
}

TEST_F(ShardWriterTest, KeepsWeightsThatAreThereUnlessToldToReplaceThem) {
  fs::create_directories(dir_);
  std::ofstream(dir_ + "/model-00001-of-00009.safetensors") << "old";
  const auto refused = ShardWriter::create(dir_, {{"a", DType::kF32, {1}}});
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("model-00001-of-00009.safetensors"));
  EXPECT_EQ(read_file(dir_ + "/model-00001-of-00009.safetensors"), "old");

  auto writer = ShardWriter::create(dir_, {{"a", DType::kF32, {1}}}, {.overwrite = true});
  ASSERT_TRUE(writer.ok());
  write_all(*writer, 4);
  ASSERT_TRUE(writer->finish().ok());
  EXPECT_THAT(names(), ElementsAre("model.safetensors"));
}

TEST_F(ShardWriterTest, NamesTheFolderThatCannotBeMade) {
  std::ofstream(dir_) << "a file";
  const auto writer = ShardWriter::create(dir_, {{"a", DType::kF32, {1}}});
  ASSERT_FALSE(writer.ok());
  EXPECT_EQ(writer.error().code, ErrorCode::kIo);
  EXPECT_THAT(writer.error().message, HasSubstr(dir_));
}

}  // namespace
}  // namespace gimbal::checkpoint
