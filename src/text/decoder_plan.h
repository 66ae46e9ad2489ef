#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace gimbal::text {

// One step that turns a token's text into output text.
struct DecoderStep {
  enum class Kind {
    kReplace,     // every `pattern` becomes `content`
    kStripStart,  // up to `count` leading `pattern`s are cut
    kMetaspace,   // every `pattern` becomes a space, but `content` in the first token
    kJoinSpaces,  // a space before every token but the first (a tokenizer without a decoder)
  };
  Kind kind = Kind::kReplace;
  std::string pattern = {};
  std::string content = {};
  std::size_t count = 0;
  // The step sees the whole text as one token, because tokens were fused before it.
  bool fused = false;
};

// How bytes become characters.
enum class ByteAssembly {
  kNone,          // token texts are characters already
  kByteLevel,     // GPT-2's map: one character stands for one byte; repaired as a whole
  kByteFallback,  // tokens <0x00> … <0xFF> stand for bytes; a run of them is valid or all U+FFFD
};

// The `decoder` section of a tokenizer.json in the form in which it can run token by token:
// steps on each token alone, then the assembly of bytes, then steps that need the order of tokens.
struct DecoderPlan {
  std::vector<DecoderStep> per_token;
  ByteAssembly assembly = ByteAssembly::kNone;
  std::vector<DecoderStep> in_order;
};

// Reads the JSON of a `decoder` section ("null" when there is none): ByteLevel, ByteFallback,
// Metaspace, Replace, Strip, Fuse and Sequences of them. A kind or an order that cannot run token
// by token is kUnsupported and named.
[[nodiscard]] Result<DecoderPlan> parse_decoder(std::string_view decoder_json);

// `text` with every `pattern` replaced. Requires: a pattern that is not empty.
[[nodiscard]] std::string replace_all(std::string_view text, std::string_view pattern,
                                      std::string_view content);

// How many bytes of `text` are the leading `pattern`s, at most `count` of them. Requires: a
// pattern that is not empty.
[[nodiscard]] std::size_t leading_bytes(std::string_view text, std::string_view pattern,
                                        std::size_t count);

// The byte that a token like "<0x0A>" stands for.
[[nodiscard]] std::optional<std::uint8_t> fallback_byte(std::string_view token);

// The bytes that a byte-level token stands for. A token with a character outside the map stands
// for its own UTF-8.
[[nodiscard]] std::string byte_level_bytes(std::string_view token);

}  // namespace gimbal::text
