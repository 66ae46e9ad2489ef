#include "text/incremental_detokenizer.h"

namespace gimbal::text {

IncrementalDetokenizer::IncrementalDetokenizer(const Vocabulary& vocabulary,
                                               bool skip_special_tokens)
    : vocabulary_(&vocabulary),
      skip_special_tokens_(skip_special_tokens),
      states_(vocabulary.plan().in_order.size()) {
  start();
}

void IncrementalDetokenizer::start() {
  const auto& steps = vocabulary_->plan().in_order;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    states_[i] = {.first = true, .strip_left = steps[i].count};
  }
}

void IncrementalDetokenizer::push(TokenId id, std::string& out) {
  if (!vocabulary_->contains(id)) return;
  if (skip_special_tokens_ && vocabulary_->is_special(id)) return;
  const std::string_view piece = vocabulary_->piece(id);
  switch (vocabulary_->plan().assembly) {
    case ByteAssembly::kNone:
      feed(piece, out);
      break;
    case ByteAssembly::kByteLevel:
      if (states_.empty()) {
        repair_.append(piece, out);
      } else {
        repaired_.clear();
        repair_.append(piece, repaired_);
        feed(repaired_, out);
      }
      break;
    case ByteAssembly::kByteFallback:
      if (vocabulary_->is_fallback_byte(id)) {
        push_fallback_byte(piece[0], out);
      } else {
        end_fallback_run(out);
        feed(piece, out);
      }
      break;
  }
}

void IncrementalDetokenizer::finish(std::string& out) {
  if (vocabulary_->plan().assembly == ByteAssembly::kByteLevel) {
    repaired_.clear();
    repair_.finish(repaired_);
    if (!repaired_.empty()) feed(repaired_, out);
  }
  end_fallback_run(out);
  start();
}

void IncrementalDetokenizer::push_fallback_byte(char byte, std::string& out) {
  if (!run_invalid_ &&
      run_scanner_.next(static_cast<std::uint8_t>(byte)) != Utf8Scanner::Outcome::kInvalid) {
    run_.push_back(byte);
    return;
  }
  // One wrong byte makes every byte of the run a token of its own, U+FFFD.
  run_invalid_ = true;
  for (std::size_t i = 0; i < run_.size() + 1; ++i)
    feed(kReplacementCharacter, out);
  run_.clear();
}

void IncrementalDetokenizer::end_fallback_run(std::string& out) {
  if (!run_.empty()) {
    if (run_scanner_.between_characters()) {
      feed(run_, out);
    } else {
      for (std::size_t i = 0; i < run_.size(); ++i)
        feed(kReplacementCharacter, out);
    }
    run_.clear();
  }
  run_scanner_ = {};
  run_invalid_ = false;
}

void IncrementalDetokenizer::feed(std::string_view token, std::string& out) {
  if (states_.empty()) {
    out.append(token);
  } else {
    feed_from(0, token, out);
  }
}

void IncrementalDetokenizer::feed_from(std::size_t step_index, std::string_view token,
                                       std::string& out) {
  const auto& steps = vocabulary_->plan().in_order;
  for (; step_index < steps.size(); ++step_index) {
    const DecoderStep& step = steps[step_index];
    StepState& state = states_[step_index];
    const bool first = state.first;
    state.first = false;
    switch (step.kind) {
      case DecoderStep::Kind::kStripStart: {
        if (!step.fused) {
          token.remove_prefix(leading_bytes(token, step.pattern, step.count));
          break;
        }
        const std::size_t cut = leading_bytes(token, step.pattern, state.strip_left);
        state.strip_left -= cut / step.pattern.size();
        token.remove_prefix(cut);
        if (!token.empty()) state.strip_left = 0;
        break;
      }
      case DecoderStep::Kind::kReplace:
        if (token.find(step.pattern) == std::string_view::npos) break;
        return feed_from(step_index + 1, replace_all(token, step.pattern, step.content), out);
      case DecoderStep::Kind::kMetaspace:
        if (token.find(step.pattern) == std::string_view::npos) break;
        return feed_from(step_index + 1,
                         replace_all(token, step.pattern, first ? step.content : " "), out);
      case DecoderStep::Kind::kJoinSpaces:
        if (!first) out.push_back(' ');
        break;
    }
  }
  out.append(token);
}

}  // namespace gimbal::text
