#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "text/test_tokenizers.h"

namespace gimbal::text {
namespace {

using testing::HasSubstr;

std::unique_ptr<Tokenizer> load(const TemporaryFolder& folder, const std::string& kind) {
  make_tokenizer(folder.path(), kind);
  auto loaded = Tokenizer::load(test_python(), folder.path());
  EXPECT_TRUE(loaded.ok()) << loaded.error().message;
  return std::move(loaded).value();
}

TEST(Tokenizer, EncodesAsTheLibraryDoes) {
  for (const char* kind : {"byte_level", "byte_fallback"}) {
    const TemporaryFolder folder;
    const auto tokenizer = load(folder, kind);
    for (const bool special : {false, true}) {
      for (const std::string text : {kManyScripts, "", "<s>[INST]<|start|> x</s>", "a\n\n b"}) {
        const auto ids = tokenizer->encode(text, special);
        ASSERT_TRUE(ids.ok()) << ids.error().message;
        EXPECT_EQ(*ids, library_encode(folder.path(), text, special));
      }
    }
  }
}

TEST(Tokenizer, ReadsSpecialTokensThatTheTextSpellsOut) {
  const TemporaryFolder folder;
  const auto tokenizer = load(folder, "byte_level");
  const auto start = *tokenizer->token_to_id("<|start|>");
  ASSERT_TRUE(start.has_value());
  EXPECT_EQ(*tokenizer->encode("<|start|>", false), std::vector<TokenId>{*start});
  EXPECT_EQ(*tokenizer->token_to_id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer->special_ids(), (std::vector<TokenId>{0, 1}));
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{*start}, true), "");
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{*start}, false), "<|start|>");
}

TEST(Tokenizer, ThePostProcessorAddsItsTokensOnlyWhenAsked) {
  const TemporaryFolder folder;
  const auto tokenizer = load(folder, "byte_fallback");
  const auto with = *tokenizer->encode("fox", true);
  auto without = *tokenizer->encode("fox", false);
  without.insert(without.begin(), 1);
  EXPECT_EQ(with, without);
  EXPECT_EQ(tokenizer->decode(with, true), "fox");
}

TEST(Tokenizer, BatchesEqualSingleTexts) {
  const TemporaryFolder folder;
  const auto tokenizer = load(folder, "byte_level");
  const std::vector<std::string> texts = {"one", "", kManyScripts};
  const auto batch = tokenizer->encode_batch(texts, false);
  ASSERT_TRUE(batch.ok());
  ASSERT_EQ(batch->size(), 3u);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ((*batch)[i], *tokenizer->encode(texts[i], false));
  }
}

TEST(Tokenizer, EveryIdHasBytesAndTheLongestIsKnown) {
  const TemporaryFolder folder;
  const auto tokenizer = load(folder, "byte_level");
  std::size_t longest = 0;
  for (TokenId id = 0; static_cast<std::size_t>(id) < tokenizer->vocab_size(); ++id) {
    EXPECT_FALSE(tokenizer->token_bytes(id).empty()) << id;
    longest = std::max(longest, tokenizer->token_bytes(id).size());
  }
  EXPECT_EQ(tokenizer->longest_token_bytes(), longest);
}

TEST(Tokenizer, TextThatIsNotUtf8IsAnError) {
  const TemporaryFolder folder;
  const auto tokenizer = load(folder, "byte_level");
  const auto ids = tokenizer->encode("a\xE4\xBD", false);
  ASSERT_FALSE(ids.ok());
  EXPECT_EQ(ids.error().code, ErrorCode::kInvalidArgument);
}

TEST(Tokenizer, OtherThreadsTakeTheGilWhileATextIsEncoded) {
  const TemporaryFolder folder;
  const auto tokenizer = load(folder, "byte_level");
  std::string text;
  while (text.size() < 300'000)
    text += kManyScripts;
  const auto taken_meanwhile = [&] {
    std::atomic<bool> encoding = true;
    std::thread encoder([&] {
      EXPECT_TRUE(tokenizer->encode(text, false).ok());
      encoding = false;
    });
    int taken = 0;
    while (encoding) {
      const interpreter::GilGuard gil(test_python());
      ++taken;
    }
    encoder.join();
    return taken;
  };
  int most = 0;  // this thread may get no processor all the while
  for (int i = 0; i < 50 && most <= 100; ++i)
    most = std::max(most, taken_meanwhile());
  EXPECT_GT(most, 100);
}

TEST(Tokenizer, MissingAndBrokenFilesAreErrorsThatNameThem) {
  const TemporaryFolder folder;
  const auto missing = Tokenizer::load(test_python(), folder.path());
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr(folder.path() + "/tokenizer.json"));

  const std::string model = R"("model":{"type":"BPE","vocab":{"a":0},"merges":[]}})";
  const std::string deep(100'000, '[');
  for (const std::string& content :
       {std::string(), std::string("{"), std::string("[1]"), std::string("\xFF\xFE"), deep,
        R"({"version":"1.0","decoder":)" + deep, std::string(R"({"version":"1.0","model":null})"),
        std::string(R"({"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}})"),
        std::string(
            R"({"version":"1.0","model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]}})"),
        std::string(R"({"version":"1.0","model":{"type":"BPE","vocab":{"a":-1},"merges":[]}})"),
        // The library panics on this one only when it encodes.
        R"({"version":"1.0","post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":
           {"id":"x","type_id":0}}],"pair":[],"special_tokens":{}},)" +
            model}) {
    folder.write("tokenizer.json", content);
    const auto broken = Tokenizer::load(test_python(), folder.path());
    ASSERT_FALSE(broken.ok()) << content.substr(0, 200);
    EXPECT_EQ(broken.error().code, ErrorCode::kInvalidArgument) << broken.error().message;
    EXPECT_THAT(broken.error().message, HasSubstr("/tokenizer.json: "));
  }
}

TEST(Tokenizer, ADecoderThatIsNotSupportedIsNamed) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json",
               R"({"version":"1.0","decoder":{"type":"WordPiece","prefix":"##","cleanup":true},
                   "model":{"type":"BPE","vocab":{"a":0},"merges":[]}})");
  const auto loaded = Tokenizer::load(test_python(), folder.path());
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(loaded.error().message, HasSubstr("WordPiece"));
}

TEST(Tokenizer, TruncationAndPaddingOfTheFileAreSwitchedOff) {
  const TemporaryFolder folder;
  folder.write("tokenizer.json",
               R"({"version":"1.0",
                   "truncation":{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0},
                   "padding":{"strategy":{"Fixed":9},"direction":"Right","pad_to_multiple_of":null,
                              "pad_id":0,"pad_type_id":0,"pad_token":"a"},
                   "decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
                   "model":{"type":"BPE","vocab":{"a":0,"b":5},"merges":[]}})");
  const auto loaded = Tokenizer::load(test_python(), folder.path());
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ((*loaded)->encode("abab", false)->size(), 4u);
  EXPECT_EQ((*loaded)->vocab_size(), 6u);
  EXPECT_FALSE((*loaded)->vocabulary().contains(3));
}

}  // namespace
}  // namespace gimbal::text
