#include "server/choice_text.h"

namespace gimbal::server {

ChoiceText::ChoiceText(const text::Vocabulary& vocabulary, const ChoiceTextOptions& options)
    : detokenizer_(vocabulary, options.skip_special_tokens),
      stops_(options.stop, options.include_stop),
      searches_(!options.stop.empty()),
      include_stop_(options.include_stop),
      min_tokens_(options.min_tokens) {}

bool ChoiceText::push(TokenId token, std::string& out) {
  ++tokens_;
  if (!searches_ || tokens_ <= min_tokens_) {
    detokenizer_.push(token, out);
    return false;
  }
  fresh_.clear();
  detokenizer_.push(token, fresh_);
  return stops_.push(fresh_, out);
}

bool ChoiceText::push_stop_token(TokenId token, std::string& out) {
  if (include_stop_) return push(token, out);
  ++tokens_;
  return false;
}

bool ChoiceText::finish(std::string& out) {
  if (!searches_) {
    detokenizer_.finish(out);
    return false;
  }
  fresh_.clear();
  detokenizer_.finish(fresh_);
  if (stops_.push(fresh_, out)) return true;
  stops_.finish(out);
  return false;
}

const std::string* ChoiceText::stop() const {
  const auto matched = stops_.matched();
  return matched ? &stops_.stop(*matched) : nullptr;
}

}  // namespace gimbal::server
