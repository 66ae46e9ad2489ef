#include "text/incremental_detokenizer.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "text/test_tokenizers.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace gimbal::text {
namespace {

// What the tokens add one by one; fails the test when something is not whole UTF-8.
std::string stream(const Vocabulary& vocabulary, const std::vector<TokenId>& ids, bool skip) {
  IncrementalDetokenizer detokenizer(vocabulary, skip);
  std::string text;
  for (const TokenId id : ids) {
    std::string added;
    detokenizer.push(id, added);
    EXPECT_TRUE(is_valid_utf8(added)) << id;
    text += added;
  }
  detokenizer.finish(text);
  return text;
}

class IncrementalDetokenizerKinds : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    make_tokenizer(folder_.path(), GetParam());
    auto loaded = Tokenizer::load(test_python(), folder_.path());
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    tokenizer_ = std::move(loaded).value();
  }

  void expect_equal(const std::vector<std::vector<TokenId>>& sequences) const {
    for (const bool skip : {false, true}) {
      const auto expected = library_decode(folder_.path(), sequences, skip);
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        ASSERT_EQ(stream(tokenizer_->vocabulary(), sequences[i], skip), expected[i])
            << testing::PrintToString(sequences[i]);
      }
    }
  }

  TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(IncrementalDetokenizerKinds, EqualsTheLibraryOnRandomIds) {
  Rng rng(3);
  const auto size = static_cast<std::int64_t>(tokenizer_->vocab_size());
  std::vector<std::vector<TokenId>> sequences;
  for (int round = 0; round < 1500; ++round) {
    // The first ids are the special tokens and, with byte fallback, the bytes; the last the added
    // tokens. Four ids do not exist.
    const std::int64_t highest = round % 3 == 0 ? std::min<std::int64_t>(262, size) : size + 3;
    std::vector<TokenId>& ids = sequences.emplace_back();
    for (std::uint64_t n = rng.below(24); n > 0; --n) {
      const bool late = rng.below(6) == 0;
      ids.push_back(
          static_cast<TokenId>(late ? rng.between(size - 8, size + 3) : rng.between(0, highest)));
    }
  }
  expect_equal(sequences);
}

TEST_P(IncrementalDetokenizerKinds, EqualsTheLibraryOnTextOfManyScripts) {
  std::vector<std::vector<TokenId>> sequences;
  const std::string text = kManyScripts;
  for (std::size_t at = 0; at < text.size(); at += 97) {
    std::size_t begin = at;
    while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80)
      ++begin;
    const auto ids = tokenizer_->encode(std::string_view(text).substr(begin), true);
    ASSERT_TRUE(ids.ok()) << ids.error().message;
    ASSERT_FALSE(ids->empty());
    sequences.push_back(*ids);
  }
  expect_equal(sequences);
}

INSTANTIATE_TEST_SUITE_P(, IncrementalDetokenizerKinds, testing::ValuesIn(kTokenizerKinds),
                         [](const auto& kind) { return std::string(kind.param); });

Vocabulary vocabulary_of(std::vector<VocabularyEntry> entries, std::string_view decoder) {
  auto made = Vocabulary::make(entries, decoder);
  EXPECT_TRUE(made.ok()) << made.error().message;
  return std::move(made).value();
}

constexpr const char* kLlamaDecoder =
    R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
        {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})";

TEST(IncrementalDetokenizer, ByteLevelEmitsACharacterWithItsLastByte) {
  const Vocabulary vocabulary = vocabulary_of({{"ä½"}, {"ł"}, {"Ġa"}}, R"({"type":"ByteLevel"})");
  IncrementalDetokenizer detokenizer(vocabulary, true);
  std::string out;
  detokenizer.push(0, out);
  EXPECT_EQ(out, "");
  detokenizer.push(1, out);
  EXPECT_EQ(out, "你");
  detokenizer.push(2, out);
  EXPECT_EQ(out, "你 a");
}

TEST(IncrementalDetokenizer, ByteFallbackHoldsARunAndReplacesAnInvalidOneAtOnce) {
  const Vocabulary vocabulary =
      vocabulary_of({{"<0xE4>"}, {"<0xBD>"}, {"<0xA0>"}, {"<0xFF>"}, {"▁a"}}, kLlamaDecoder);
  IncrementalDetokenizer detokenizer(vocabulary, true);
  std::string out;
  for (const TokenId id : {0, 1, 2})
    detokenizer.push(id, out);
  EXPECT_EQ(out, "");  // a wrong byte could still follow
  detokenizer.push(4, out);
  EXPECT_EQ(out, "你 a");
  for (const TokenId id : {0, 1, 2, 3})
    detokenizer.push(id, out);
  EXPECT_EQ(out, "你 a����");
  detokenizer.push(0, out);
  EXPECT_EQ(out, "你 a�����");  // the run is lost, so nothing is held
  detokenizer.finish(out);
  EXPECT_EQ(out, "你 a�����");
}

TEST(IncrementalDetokenizer, FinishStartsAnewWithTheLeadingSpaceCut) {
  const Vocabulary vocabulary = vocabulary_of({{"▁▁a"}, {"▁"}}, kLlamaDecoder);
  IncrementalDetokenizer detokenizer(vocabulary, true);
  for (int round = 0; round < 2; ++round) {
    std::string out;
    for (const TokenId id : {1, 0, 1})
      detokenizer.push(id, out);
    detokenizer.finish(out);
    EXPECT_EQ(out, "  a ");
  }
}

TEST(IncrementalDetokenizer, SpecialTokensGapsAndForeignIdsAddNothing) {
  const Vocabulary vocabulary =
      vocabulary_of({{"a"}, {.text = "<s>", .special = true}, {.text = "gap", .present = false}},
                    R"({"type":"ByteLevel"})");
  EXPECT_EQ(stream(vocabulary, {-1, 0, 1, 2, 3, INT32_MAX, INT32_MIN, 0}, true), "aa");
  EXPECT_EQ(stream(vocabulary, {0, 1, 2}, false), "a<s>");
}

TEST(IncrementalDetokenizer, TokenBytesAreWhatATokenAddsInTheMiddle) {
  const Vocabulary fallback = vocabulary_of({{"<0xE4>"}, {"▁the"}}, kLlamaDecoder);
  EXPECT_EQ(fallback.token_bytes(0), "\xE4");
  EXPECT_EQ(fallback.token_bytes(1), " the");
  EXPECT_EQ(fallback.token_bytes(2), "");
  EXPECT_EQ(fallback.longest_token_bytes(), 4u);
  const Vocabulary level = vocabulary_of({{"ä½"}, {"Ġthe"}}, R"({"type":"ByteLevel"})");
  EXPECT_EQ(level.token_bytes(0), "\xE4\xBD");
  EXPECT_EQ(level.token_bytes(1), " the");
  const Vocabulary meta = vocabulary_of({{"▁the"}}, R"({"type":"Metaspace","replacement":"▁"})");
  EXPECT_EQ(meta.token_bytes(0), " the");
}

}  // namespace
}  // namespace gimbal::text
