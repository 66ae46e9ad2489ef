#include "server/piece_codec.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "server/prepared_request.h"

namespace gimbal::server {
namespace {

constexpr std::string_view kTexts[] = {"The quick fox jumps. ", "The lazy dog sleeps.\n\n"};

std::unique_ptr<PieceCodec> codec_of(std::size_t vocab_size = 32'000) {
  auto made = PieceCodec::make(kTexts, vocab_size);
  EXPECT_TRUE(made.ok()) << made.error().message;
  return std::move(made).value();
}

std::vector<TokenId> encode(const PieceCodec& codec, std::string_view text) {
  return codec.encode(text, true).value();
}

TEST(PieceCodec, WordsOfTheTextsAreOneTokenEach) {
  const auto codec = codec_of();
  EXPECT_EQ(encode(*codec, "The quick fox jumps.").size(), 5U);
  EXPECT_EQ(encode(*codec, " lazy dog").size(), 2U);
}

TEST(PieceCodec, OtherWordsTakeAFewPieces) {
  const auto codec = codec_of();
  EXPECT_EQ(encode(*codec, " placement").size(), 4U);  // " pl" "ace" "men" "t"
  EXPECT_EQ(encode(*codec, "").size(), 0U);
}

TEST(PieceCodec, AnyTextComesBack) {
  for (const std::size_t vocab_size : {300U, 2'000U, 32'000U}) {
    const auto codec = codec_of(vocab_size);
    ASSERT_LE(codec->vocabulary().size(), vocab_size);
    Rng rng(7);
    for (int round = 0; round < 200; ++round) {
      std::string text;
      for (std::uint64_t i = rng.below(40); i > 0; --i) {
        constexpr std::string_view kParts[] = {
            "a", "Z", " ", "\n", "\0", "é", "日本", "🦊", "The", " f", "ox", "<|end|>", "<0x41>"};
        text += kParts[rng.below(std::size(kParts))];
      }
      const std::vector<TokenId> tokens = encode(*codec, text);
      EXPECT_EQ(text_of(tokens, true, *codec), text);
      for (const TokenId token : tokens) {
        EXPECT_NE(token, PieceCodec::end_token());
        EXPECT_LT(static_cast<std::size_t>(token), vocab_size);
      }
    }
  }
}

// What was said, and comes back in the next turn of a chat, makes the same tokens.
TEST(PieceCodec, CuttingBetweenTokensDoesNotMoveThem) {
  const auto codec = codec_of();
  const std::vector<TokenId> all = encode(*codec, "The quick fox jumps over placements. ");
  for (std::size_t count = 1; count <= all.size(); ++count) {
    const std::vector<TokenId> part(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count));
    const std::string turn = "assistant\n" + text_of(part, true, *codec) + "\n\nuser\n";
    const std::vector<TokenId> again = encode(*codec, turn);
    const std::size_t before = encode(*codec, "assistant\n").size();
    ASSERT_GE(again.size(), before + count);
    EXPECT_TRUE(
        std::equal(part.begin(), part.end(), again.begin() + static_cast<std::ptrdiff_t>(before)));
  }
}

TEST(PieceCodec, RendersAChat) {
  const auto codec = codec_of();
  const std::string_view messages =
      R"([{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}])";
  EXPECT_EQ(codec->render_chat(messages, {}).value(),
            "system\nBe brief.\n\nuser\nHi\n\nassistant\n");
  EXPECT_EQ(codec->render_chat(messages, {.add_generation_prompt = false}).value(),
            "system\nBe brief.\n\nuser\nHi\n\n");
  const auto long_one = codec->render_chat(messages, {.max_output_bytes = 10});
  ASSERT_FALSE(long_one.ok());
  EXPECT_EQ(long_one.error().field, "messages");
}

TEST(PieceCodec, RefusesAVocabularyWithoutRoom) {
  const auto made = PieceCodec::make(kTexts, 260);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().field, "vocab_size");
}

}  // namespace
}  // namespace gimbal::server
