#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "server/text_codec.h"

namespace gimbal::server {

// A codec that needs no tokenizer: for simulated models. Its tokens are the 256 bytes, the words of
// given texts with the space before them, and pieces of two and three letters of other words; the
// longest that fits comes first. English takes a token for three to four bytes, other scripts one
// a byte. Any text comes back as it was, if it is UTF-8. No special tokens are added. Immutable, so
// thread-safe.
class PieceCodec final : public TextCodec {
 public:
  // Bytes and words of `texts`, and as many pieces as `vocab_size` leaves ids for.
  // kInvalidArgument: it has no room for the bytes and words.
  [[nodiscard]] static Result<std::unique_ptr<PieceCodec>> make(
      std::span<const std::string_view> texts, std::size_t vocab_size);

  [[nodiscard]] Result<std::vector<TokenId>> encode(std::string_view text,
                                                    bool add_special_tokens) const override;
  // ROLE, a line end, the content and an empty line for each message; at the end "assistant" and a
  // line end. Template variables are ignored.
  [[nodiscard]] Result<std::string> render_chat(std::string_view messages_json,
                                                const text::RenderOptions& options) const override;
  [[nodiscard]] const text::Vocabulary& vocabulary() const override { return *vocabulary_; }
  // Special: what ends an answer.
  [[nodiscard]] static TokenId end_token() { return 256; }

 private:
  PieceCodec() = default;
  void add(std::string piece);

  std::vector<std::string> pieces_;  // by id, from the end token on; "" is that token's
  std::unordered_map<std::string, TokenId> ids_;
  std::size_t longest_ = 1;
  std::unique_ptr<const text::Vocabulary> vocabulary_;
};

}  // namespace gimbal::server
