#include "synthetic/make_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "base/temporary_folder.h"
#include "checkpoint/weight_index.h"

namespace gimbal::synthetic {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class MakeModel : public testing::Test {
 protected:
  Result<Summary> make(const SyntheticOptions& options, const std::string& name,
                       bool overwrite = false) {
    return make_model(options, folder_.path(name), overwrite, pool_,
                      [this](std::uint64_t done, std::uint64_t total) {
                        EXPECT_LE(done, total);
                        progress_ = done;
                      });
  }
  [[nodiscard]] std::map<std::string, std::string> files_of(const std::string& name) const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(folder_.path(name))) {
      std::ostringstream text;
      text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
      files[entry.path().filename()] = text.str();
    }
    return files;
  }

  TemporaryFolder folder_;
  ThreadPool pool_{{.workers = 2, .pin = false}};
  std::uint64_t progress_ = 0;
};

SyntheticOptions tiny(Family family) {
  SyntheticOptions options = family_defaults(family);
  options.hidden_size = 64;
  options.head_dim = 16;
  options.layers = 2;
  options.vocab_size = 300;
  options.seed = 7;
  if (traits_of(family).has_experts) {
    options.topics = 3;
    options.routing_skew = 0.7;
  }
  return options;
}

// Of every file's name and bytes, in the order of the names.
std::string sha256(const std::map<std::string, std::string>& files) {
  std::string all;
  for (const auto& [name, bytes] : files) {
    all += name + '\0' + bytes;
  }
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EXPECT_EQ(EVP_Digest(all.data(), all.size(), digest, &size, EVP_sha256(), nullptr), 1);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    constexpr const char* kDigits = "0123456789abcdef";
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

// These change only when the way models are made is changed on purpose; then the references under
// tests/goldens have to be made again too.
TEST_F(MakeModel, ASeedGivesTheSameBytesEverywhere) {
  const std::map<Family, std::string> expected = {
      {Family::kMixtral, "768dbfd5505b9d79121e035c4b5955806aaf024d633df7aaeb7cc7c968df2f33"},
      {Family::kQwen2Moe, "5265b682f1baa22668d617390d249729968df6f7acb7b66220e8b9eb8847a4d5"},
      {Family::kQwen3Moe, "db6c904655e866af070f9e1d125e6eeb6589b29f63d89aebf73edde350df8a93"},
      {Family::kOlmoe, "fb27c190442f5b5d990dfbdbe9b62669e2edcc14a81a5efa88b13100efd3b096"},
      {Family::kLlama, "56c92ed053c79bf3ae8c65a13616e860ce749cd0f4483ab236b7e68597267540"},
      {Family::kQwen3, "cc0d73428192cf0548d356e37d01bde67b7456945e78e4041772f779f2c8b0d3"}};
  for (const auto& [family, digest] : expected) {
    const std::string name(model_config::model_type_of(family));
    SyntheticOptions options = tiny(family);
    if (family == Family::kOlmoe) options.dtype = tensor::DType::kF32;
    if (family == Family::kLlama) options.dtype = tensor::DType::kF16;
    const auto made = make(options, name);
    ASSERT_TRUE(made.ok()) << made.error().message;
    EXPECT_EQ(progress_, made->weight_bytes);
    EXPECT_EQ(sha256(files_of(name)), digest) << name;
  }
}

TEST_F(MakeModel, ShardsHoldWhatOneFileWouldHold) {
  SyntheticOptions options = tiny(Family::kOlmoe);
  ASSERT_TRUE(make(options, "one").ok());
  options.shard_bytes = 100000;
  const auto made = make(options, "many");
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_GT(made->shards, 3);
  const auto one = checkpoint::WeightIndex::open(folder_.path("one"));
  const auto many = checkpoint::WeightIndex::open(folder_.path("many"));
  ASSERT_TRUE(one.ok() && many.ok());
  ASSERT_EQ(one->tensors().size(), many->tensors().size());
  for (const auto& [name, info] : one->tensors()) {
    const auto* other = many->find(name);
    ASSERT_NE(other, nullptr) << name;
    std::vector<std::byte> a(info.entry.bytes);
    std::vector<std::byte> b(other->entry.bytes);
    ASSERT_TRUE(one->read(info, 0, a).ok() && many->read(*other, 0, b).ok());
    EXPECT_EQ(a, b) << name;
  }
}

TEST_F(MakeModel, AFolderWithFilesIsLeftAloneUnlessAskedOtherwise) {
  ASSERT_TRUE(make(tiny(Family::kLlama), "model").ok());
  folder_.write("model/notes.txt", "mine");
  const auto before = files_of("model");
  SyntheticOptions other = tiny(Family::kLlama);
  other.seed = 8;
  const auto refused = make(other, "model");
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("not empty"));
  EXPECT_EQ(files_of("model"), before);
  const auto replaced = make(other, "model", true);
  ASSERT_TRUE(replaced.ok()) << replaced.error().message;
  const auto after = files_of("model");
  EXPECT_EQ(after.at("notes.txt"), "mine");
  EXPECT_EQ(after.size(), before.size());
  EXPECT_NE(after.at("model.safetensors"), before.at("model.safetensors"));
}

TEST_F(MakeModel, BadOptionsAndPlacesLeaveNothingBehind) {
  SyntheticOptions options = tiny(Family::kLlama);
  options.vocab_size = 3;
  EXPECT_FALSE(make(options, "bad").ok());
  EXPECT_FALSE(fs::exists(folder_.path("bad")));
  folder_.write("file", "x");
  EXPECT_FALSE(make(tiny(Family::kLlama), "file").ok());
  EXPECT_FALSE(make(tiny(Family::kLlama), "file/under").ok());
}

TEST_F(MakeModel, AModelLargerThanTheDiskIsRefusedBeforeAnyWork) {
  SyntheticOptions options = family_defaults(Family::kLlama);
  options.layers = 600;
  options.hidden_size = 16384;
  options.intermediate_size = 65536;
  options.dtype = tensor::DType::kBF16;
  const fs::space_info space = fs::space(folder_.path());
  const auto bytes = static_cast<std::uint64_t>(parameter_count(options)) * 2;
  if (space.available > bytes) GTEST_SKIP() << "this disk is larger than the model";
  const auto made = make(options, "large");
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(made.error().message, HasSubstr("GB free"));
  EXPECT_FALSE(fs::exists(folder_.path("large")));
}

TEST_F(MakeModel, SkewAndTopicsShowInTheEstimate) {
  SyntheticOptions options = family_defaults(Family::kQwen3Moe);
  options.layers = 2;
  options.vocab_size = 1024;
  options.experts = 32;
  const auto estimate = [this](const SyntheticOptions& of) {
    return estimate_routing(of, RoutingPlan(of), pool_);
  };
  const RoutingEstimate even = estimate(options);
  EXPECT_EQ(even.moe_layers, 2);
  EXPECT_LT(even.max_over_mean, 1.6);
  options.routing_skew = 1;
  const RoutingEstimate skewed = estimate(options);
  EXPECT_GT(skewed.max_over_mean, 3);
  EXPECT_LT(skewed.distinct, even.distinct - 3);
  options.routing_skew = 0;
  options.topics = 8;
  const RoutingEstimate topical = estimate(options);
  EXPECT_GT(topical.max_over_mean_one_topic, 2 * topical.max_over_mean);
  EXPECT_LT(topical.distinct_one_topic, topical.distinct - 5);
}

}  // namespace
}  // namespace gimbal::synthetic
