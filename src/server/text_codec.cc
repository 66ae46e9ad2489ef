#include "server/text_codec.h"

namespace gimbal::server {
namespace {

class ModelTextCodec final : public TextCodec {
 public:
  ModelTextCodec(const text::Tokenizer& tokenizer, const text::ChatTemplate* chat_template)
      : tokenizer_(tokenizer), chat_template_(chat_template) {}

  Result<std::vector<TokenId>> encode(std::string_view text,
                                      bool add_special_tokens) const override {
    return tokenizer_.encode(text, add_special_tokens);
  }
  Result<std::string> render_chat(std::string_view messages_json,
                                  const text::RenderOptions& options) const override {
    if (chat_template_ == nullptr) {
      return unsupported("the model has no chat template, so it takes no messages", "messages");
    }
    return chat_template_->render(messages_json, options);
  }
  const text::Vocabulary& vocabulary() const override { return tokenizer_.vocabulary(); }

 private:
  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate* chat_template_;
};

}  // namespace

std::unique_ptr<TextCodec> make_text_codec(const text::Tokenizer& tokenizer,
                                           const text::ChatTemplate* chat_template) {
  return std::make_unique<ModelTextCodec>(tokenizer, chat_template);
}

}  // namespace gimbal::server
