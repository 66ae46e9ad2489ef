#include "text/decoder_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gimbal::text {
namespace {

using testing::HasSubstr;

Error error_of(std::string_view json) {
  const auto plan = parse_decoder(json);
  return plan.ok() ? Error{ErrorCode::kInternal, "no error"} : plan.error();
}

TEST(DecoderPlan, ReadsTheLlamaSequence) {
  const auto plan = parse_decoder(
      R"({"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
          {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})");
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  ASSERT_EQ(plan->per_token.size(), 1u);
  EXPECT_EQ(plan->per_token[0].pattern, "▁");
  EXPECT_EQ(plan->assembly, ByteAssembly::kByteFallback);
  ASSERT_EQ(plan->in_order.size(), 1u);
  EXPECT_TRUE(plan->in_order[0].fused);
  EXPECT_EQ(plan->in_order[0].count, 1u);
}

TEST(DecoderPlan, UnknownKindsAndOrdersAreNamed) {
  const Error kind = error_of(R"({"type":"WordPiece","prefix":"##","cleanup":true})");
  EXPECT_EQ(kind.code, ErrorCode::kUnsupported);
  EXPECT_THAT(kind.message, HasSubstr("WordPiece"));
  const Error nested = error_of(R"({"type":"Sequence","decoders":[{"type":"CTC"}]})");
  EXPECT_EQ(nested.field, "decoder.decoders[0].type");
  const Error order =
      error_of(R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]})");
  EXPECT_EQ(order.code, ErrorCode::kUnsupported);
  EXPECT_THAT(order.message, HasSubstr("ByteFallback"));
}

TEST(DecoderPlan, RefusesWhatCannotRunTokenByToken) {
  for (const char* json :
       {R"({"type":"Replace","pattern":{"Regex":"a+"},"content":" "})",
        R"({"type":"Replace","pattern":{"String":""},"content":" "})",
        R"({"type":"Strip","content":" ","start":0,"stop":1})",
        R"({"type":"Sequence","decoders":[{"type":"Fuse"},
            {"type":"Replace","pattern":{"String":"ab"},"content":""}]})",
        R"({"type":"Sequence","decoders":[{"type":"ByteLevel"},{"type":"ByteLevel"}]})"}) {
    EXPECT_EQ(error_of(json).code, ErrorCode::kUnsupported) << json;
  }
}

TEST(DecoderPlan, BrokenSectionsAreErrors) {
  for (const char* json :
       {"", "[]", "7", "{}", R"({"type":3})", R"({"type":"Sequence"})",
        R"({"type":"Sequence","decoders":{}})", R"({"type":"Sequence","decoders":[null]})",
        R"({"type":"Replace"})", R"({"type":"Strip","content":"","start":1})",
        R"({"type":"Strip","content":"  ","start":1})",
        R"({"type":"Strip","content":" ","start":-1})",
        R"({"type":"Metaspace","replacement":"ab"})"}) {
    EXPECT_FALSE(parse_decoder(json).ok()) << json;
  }
}

TEST(DecoderPlan, FallbackBytesAreExactlyWhatTheLibraryReads) {
  EXPECT_EQ(fallback_byte("<0x0A>"), 0x0A);
  EXPECT_EQ(fallback_byte("<0xff>"), 0xFF);
  EXPECT_EQ(fallback_byte("<0x+5>"), 0x05);
  for (const char* token :
       {"<0x0>", "<0x0G>", "<0x-5>", "<0x++>", "0x0A>>", "<0x0A ", "", "<0xé>"}) {
    EXPECT_EQ(fallback_byte(token), std::nullopt) << token;
  }
}

TEST(DecoderPlan, ByteLevelMapsAllOrNothing) {
  EXPECT_EQ(byte_level_bytes("Ġhi"), " hi");
  EXPECT_EQ(byte_level_bytes("ä½ł"), "\xE4\xBD\xA0");
  EXPECT_EQ(byte_level_bytes("Ġ日"), "Ġ日");
  EXPECT_EQ(byte_level_bytes("a b"), "a b");  // a plain space is not in the map
  EXPECT_EQ(byte_level_bytes(""), "");
}

}  // namespace
}  // namespace gimbal::text
