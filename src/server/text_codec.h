#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace gimbal::server {

// What the server asks of a model's text: prompts to tokens, and the vocabulary that native code
// turns tokens back with. Thread-safe.
class TextCodec {
 public:
  virtual ~TextCodec() = default;

  // Errors: see text::Tokenizer::encode.
  [[nodiscard]] virtual Result<std::vector<TokenId>> encode(std::string_view text,
                                                            bool add_special_tokens) const = 0;
  // The prompt of a conversation. kUnsupported where the model has no chat template; other errors:
  // see text::ChatTemplate::render.
  [[nodiscard]] virtual Result<std::string> render_chat(
      std::string_view messages_json, const text::RenderOptions& options) const = 0;
  [[nodiscard]] virtual const text::Vocabulary& vocabulary() const = 0;
};

// A model's own tokenizer and chat template. `tokenizer` must outlive the codec, and so must
// `chat_template`, which may be null.
[[nodiscard]] std::unique_ptr<TextCodec> make_text_codec(const text::Tokenizer& tokenizer,
                                                         const text::ChatTemplate* chat_template);

}  // namespace gimbal::server
