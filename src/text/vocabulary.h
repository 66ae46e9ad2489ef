#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/decoder_plan.h"

namespace gimbal::text {

// One id of a tokenizer, as its library decodes it before any decoder runs.
struct VocabularyEntry {
  std::string text = {};
  bool present = true;   // false: the id is a gap, and decodes to nothing
  bool special = false;  // left out of the text when special tokens are skipped
};

// What native code knows of a tokenizer: the bytes of each id and how they become text. Immutable,
// so thread-safe.
class Vocabulary final {
 public:
  // `entries[i]` is id i. Fails on a decoder that is not supported (see parse_decoder).
  [[nodiscard]] static Result<Vocabulary> make(std::span<const VocabularyEntry> entries,
                                               std::string_view decoder_json);

  // Ids run from 0 to size() - 1; there may be gaps among them.
  [[nodiscard]] std::size_t size() const { return flags_.size(); }
  // False for gaps and for ids outside of [0, size()).
  [[nodiscard]] bool contains(TokenId id) const { return (flags_of(id) & kPresent) != 0; }
  [[nodiscard]] bool is_special(TokenId id) const { return (flags_of(id) & kSpecial) != 0; }

  // The bytes that the token adds to a text, apart from the start of the text, where a leading
  // space may be cut. Not always UTF-8 on its own. Empty for ids that are not contained.
  [[nodiscard]] std::string_view token_bytes(TokenId id) const;
  // The size of the longest token_bytes(): a text of n bytes makes at least n / this many tokens,
  // unless the tokenizer's normalizer shortens it.
  [[nodiscard]] std::size_t longest_token_bytes() const { return longest_; }

  [[nodiscard]] const DecoderPlan& plan() const { return plan_; }
  // The token after the plan's steps per token, as bytes where it stands for bytes.
  // Requires: contains(id).
  [[nodiscard]] std::string_view piece(TokenId id) const { return pieces_.at(id); }
  // Whether the piece is one byte of a byte-fallback run.
  [[nodiscard]] bool is_fallback_byte(TokenId id) const { return (flags_of(id) & kByte) != 0; }

 private:
  enum Flag : std::uint8_t { kPresent = 1, kSpecial = 2, kByte = 4 };

  // Strings by id in one block of memory.
  struct Strings {
    std::string bytes;
    std::vector<std::uint32_t> ends;
    void push_back(std::string_view text);
    [[nodiscard]] std::string_view at(TokenId id) const {
      const auto index = static_cast<std::size_t>(id);
      const std::uint32_t begin = index == 0 ? 0 : ends[index - 1];
      return std::string_view(bytes).substr(begin, ends[index] - begin);
    }
  };

  [[nodiscard]] std::uint8_t flags_of(TokenId id) const {
    const auto index = static_cast<std::uint32_t>(id);  // a negative id becomes too large
    return index < flags_.size() ? flags_[index] : std::uint8_t{0};
  }

  DecoderPlan plan_;
  std::vector<std::uint8_t> flags_;
  Strings pieces_;
  Strings shown_;  // token_bytes(); empty when they are the pieces
  std::size_t longest_ = 0;
};

}  // namespace gimbal::text
