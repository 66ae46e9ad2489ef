#include "checkpoint/weight_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "base/temporary_folder.h"
#include "checkpoint/shard_writer.h"

namespace gimbal::checkpoint {
namespace {

namespace fs = std::filesystem;
using tensor::DType;
using testing::HasSubstr;

class WeightIndexTest : public testing::Test {
 protected:
  // Tensor i is filled with the byte i.
  void write_model(const std::vector<TensorSpec>& specs, std::uint64_t max_shard_bytes = 1 << 30) {
    auto writer =
        ShardWriter::create(dir_, specs, {.max_shard_bytes = max_shard_bytes, .overwrite = true});
    ASSERT_TRUE(writer.ok()) << writer.error().message;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].bytes() == 0) continue;
      const std::vector<std::byte> data(specs[i].bytes(), static_cast<std::byte>(i));
      ASSERT_TRUE(writer->append(data).ok());
    }
    ASSERT_TRUE(writer->finish().ok());
  }
  void write_text(const std::string& name, std::string_view text) const {
    std::ofstream(dir_ + "/" + name, std::ios::binary) << text;
  }
  std::string open_error() const {
    const auto index = WeightIndex::open(dir_);
    return index.ok() ? "accepted" : index.error().message;
  }

  const std::vector<TensorSpec> specs_ = {
      {"embed", DType::kBF16, {4, 2}}, {"router", DType::kF32, {3}}, {"norm", DType::kF16, {2}}};
  TemporaryFolder folder_;
  const std::string dir_ = folder_.path("model");
};

TEST_F(WeightIndexTest, FindsAndReadsTensorsWhereverTheyAre) {
  for (const std::uint64_t shard_bytes : {1 << 30, 16}) {
    write_model(specs_, shard_bytes);
    const auto index = WeightIndex::open(dir_);
    ASSERT_TRUE(index.ok()) << index.error().message;
    EXPECT_EQ(index->files().size(), shard_bytes == 16 ? 2U : 1U);
    EXPECT_EQ(index->tensors().size(), 3U);
    EXPECT_EQ(index->total_bytes(), 32U);
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      const auto tensor = index->require(specs_[i].name, specs_[i].shape);
      ASSERT_TRUE(tensor.ok()) << tensor.error().message;
      EXPECT_EQ((*tensor)->entry.type.dtype, specs_[i].dtype);
      std::vector<std::byte> data(specs_[i].bytes() - 1, std::byte{99});
      ASSERT_TRUE(index->read(**tensor, 1, data).ok());
      EXPECT_EQ(data, std::vector(data.size(), static_cast<std::byte>(i)));
    }
    EXPECT_EQ(index->find("lm_head"), nullptr);
  }
}

TEST_F(WeightIndexTest, SaysWhatIsWrongWithARequiredTensor) {
  write_model(specs_);
  const auto index = WeightIndex::open(dir_);
  ASSERT_TRUE(index.ok());
  const auto error = [&](std::string_view name, std::vector<std::int64_t> shape) {
    const auto tensor = index->require(name, shape);
    return tensor.ok() ? "found" : tensor.error().message;
  };
  EXPECT_EQ(error("embed", {4, 2}), "found");
  EXPECT_THAT(error("lm_head", {4, 2}), HasSubstr("no tensor \"lm_head\""));
  EXPECT_THAT(error("embed", {2, 4}), HasSubstr("must have the shape [2, 4], has [4, 2]"));
  EXPECT_THAT(error("embed", {8}), HasSubstr("model.safetensors"));
}

TEST_F(WeightIndexTest, RefusesATypeOnlyWhenItIsAskedFor) {
  fs::create_directories(dir_);
  const std::string header = R"({"ids":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  write_text("model.safetensors", file + header + "12345678");
  const auto index = WeightIndex::open(dir_);
  ASSERT_TRUE(index.ok()) << index.error().message;
  const auto tensor = index->require("ids", std::vector<std::int64_t>{1});
  ASSERT_FALSE(tensor.ok());
  EXPECT_EQ(tensor.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(tensor.error().message, HasSubstr("is I64"));
}

TEST_F(WeightIndexTest, ReadsLooseFilesWhenThereIsNoIndex) {
  write_model(specs_, 16);
  fs::remove(dir_ + "/model.safetensors.index.json");
  EXPECT_EQ(open_error(), "accepted");
  fs::remove(dir_ + "/model-00002-of-00002.safetensors");
  EXPECT_THAT(open_error(), HasSubstr("1 files model-*-of-00002.safetensors are there"));
}

TEST_F(WeightIndexTest, RefusesATensorThatTwoLooseFilesHold) {
  write_model(specs_);
  fs::rename(dir_ + "/model.safetensors", dir_ + "/a.safetensors");
  fs::copy_file(dir_ + "/a.safetensors", dir_ + "/b.safetensors");
  EXPECT_THAT(open_error(), HasSubstr("a.safetensors too"));
}

TEST_F(WeightIndexTest, RefusesAFolderWithoutWeights) {
  EXPECT_THAT(open_error(), HasSubstr(dir_));
  fs::create_directories(dir_);
  EXPECT_THAT(open_error(), HasSubstr("no safetensors files"));
}

TEST_F(WeightIndexTest, RefusesAnIndexThatTheFilesDoNotKeep) {
  write_model(specs_, 16);
  write_text("model.safetensors.index.json",
             R"({"weight_map": {"lm_head": "model-00001-of-00002.safetensors"}})");
  EXPECT_THAT(open_error(), HasSubstr("has no tensor \"lm_head\""));
  write_text("model.safetensors.index.json", R"({"weight_map": {"norm": "gone.safetensors"}})");
  EXPECT_THAT(open_error(), HasSubstr("gone.safetensors"));
  write_text("model.safetensors.index.json", R"({"weight_map": {"norm": "a", "norm": "b"}})");
  EXPECT_THAT(open_error(), HasSubstr("key twice: norm"));
}

TEST_F(WeightIndexTest, RefusesFileNamesThatLeadElsewhere) {
  for (const auto* name : {"../model.safetensors", "/etc/model.safetensors",
                           "sub/model.safetensors", "", ".safetensors", "..", ".hidden.safetensors",
                           "model.bin", "a\\b.safetensors", "a\nb.safetensors"}) {
    const auto map = parse_weight_map(Json{{"weight_map", {{"t", name}}}});
    ASSERT_FALSE(map.ok()) << name;
    EXPECT_EQ(map.error().field, "weight_map");
  }
  const std::string nul("model\0.safetensors", 18);
  EXPECT_FALSE(parse_weight_map(Json{{"weight_map", {{"t", nul}}}}).ok());
  EXPECT_FALSE(parse_weight_map(Json{{"weight_map", {{"t", 7}}}}).ok());
  EXPECT_FALSE(parse_weight_map(Json{{"weight_map", Json::object()}}).ok());
  EXPECT_FALSE(parse_weight_map(Json{{"weights", 1}}).ok());
  EXPECT_FALSE(parse_weight_map(Json::array()).ok());
  EXPECT_TRUE(parse_weight_map(Json{{"weight_map", {{"t", "model.safetensors"}}}}).ok());
}

}  // namespace
}  // namespace gimbal::checkpoint
