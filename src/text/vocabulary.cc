#include "text/vocabulary.h"

#include <algorithm>

namespace gimbal::text {
namespace {

std::string apply_alone(const std::vector<DecoderStep>& steps, std::string token) {
  for (const DecoderStep& step : steps) {
    if (step.kind == DecoderStep::Kind::kReplace) {
      token = replace_all(token, step.pattern, step.content);
    } else {
      token.erase(0, leading_bytes(token, step.pattern, step.count));
    }
  }
  return token;
}

// What the steps make of a token that is not the first.
std::string apply_later(const std::vector<DecoderStep>& steps, std::string token) {
  for (const DecoderStep& step : steps) {
    switch (step.kind) {
      case DecoderStep::Kind::kReplace:
        token = replace_all(token, step.pattern, step.content);
        break;
      case DecoderStep::Kind::kMetaspace:
        token = replace_all(token, step.pattern, " ");
        break;
      case DecoderStep::Kind::kStripStart:
        if (!step.fused) token.erase(0, leading_bytes(token, step.pattern, step.count));
        break;
      case DecoderStep::Kind::kJoinSpaces:
        token.insert(0, 1, ' ');
        break;
    }
  }
  return token;
}

}  // namespace

void Vocabulary::Strings::push_back(std::string_view text) {
  bytes.append(text);
  ends.push_back(static_cast<std::uint32_t>(bytes.size()));
}

Result<Vocabulary> Vocabulary::make(std::span<const VocabularyEntry> entries,
                                    std::string_view decoder_json) {
  std::size_t total = 0;
  for (const VocabularyEntry& entry : entries)
    total += entry.text.size();
  if (total > UINT32_MAX / 4) {  // replacing may lengthen them
    return invalid_argument("the vocabulary's texts must not exceed 1 GiB, are bytes: " +
                            std::to_string(total));
  }
  Vocabulary vocabulary;
  GIMBAL_ASSIGN_OR_RETURN(vocabulary.plan_, parse_decoder(decoder_json));
  const DecoderPlan& plan = vocabulary.plan_;
  const bool shown_differs =
      std::any_of(plan.in_order.begin(), plan.in_order.end(), [](const DecoderStep& step) {
        return step.kind != DecoderStep::Kind::kStripStart || !step.fused;
      });

  std::size_t written = 0;
  for (const VocabularyEntry& entry : entries) {
    std::uint8_t flags = 0;
    std::string piece;
    if (entry.present) {
      flags = entry.special ? kPresent | kSpecial : kPresent;
      piece = apply_alone(plan.per_token, entry.text);
      if (plan.assembly == ByteAssembly::kByteLevel) piece = byte_level_bytes(piece);
      if (plan.assembly == ByteAssembly::kByteFallback) {
        if (const auto byte = fallback_byte(piece)) {
          piece.assign(1, static_cast<char>(*byte));
          flags |= kByte;
        }
      }
    }
    vocabulary.flags_.push_back(flags);
    vocabulary.pieces_.push_back(piece);
    if (shown_differs) {
      vocabulary.shown_.push_back(entry.present ? apply_later(plan.in_order, piece) : "");
    }
    written += piece.size();
    if (written > UINT32_MAX / 4 || vocabulary.shown_.bytes.size() > UINT32_MAX / 4) {
      return invalid_argument("the vocabulary's texts exceed 1 GiB after decoding");
    }
    vocabulary.longest_ =
        std::max(vocabulary.longest_,
                 vocabulary.token_bytes(static_cast<TokenId>(vocabulary.flags_.size() - 1)).size());
  }
  return vocabulary;
}

std::string_view Vocabulary::token_bytes(TokenId id) const {
  if (!contains(id)) return {};
  return shown_.ends.empty() ? pieces_.at(id) : shown_.at(id);
}

}  // namespace gimbal::text
