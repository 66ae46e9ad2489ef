#include "server/piece_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/json.h"

namespace gimbal::server {
namespace {

constexpr std::size_t kBytes = 256;
constexpr std::string_view kEndText = "<|end|>";
constexpr std::string_view kDecoder =
    R"({"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"}]})";

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// ASCII stands for itself, so that it is shown at once; of other bytes several make a character.
std::string byte_text(std::size_t byte) {
  return byte < 0x80 ? std::string(1, static_cast<char>(byte)) : fmt::format("<0x{:02X}>", byte);
}

// Runs of letters, with the space before them.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t begin = i;
    while (i < text.size() && is_letter(text[i]))
      ++i;
    if (i == begin) {
      ++i;
      continue;
    }
    if (begin > 0 && text[begin - 1] == ' ') --begin;
    words.emplace_back(text.substr(begin, i - begin));
  }
  return words;
}

}  // namespace

void PieceCodec::add(std::string piece) {
  const auto id = static_cast<TokenId>(kBytes + pieces_.size());
  if (!ids_.emplace(piece, id).second) return;
  longest_ = std::max(longest_, piece.size());
  pieces_.push_back(std::move(piece));
}

Result<std::unique_ptr<PieceCodec>> PieceCodec::make(std::span<const std::string_view> texts,
                                                     std::size_t vocab_size) {
  std::unique_ptr<PieceCodec> codec(new PieceCodec());
  codec->pieces_.emplace_back();  // the end token: no text makes it
  for (const std::string_view text : texts) {
    for (std::string& word : words_of(text)) {
      if (word.size() > 1) codec->add(std::move(word));
    }
  }
  const std::size_t needed = kBytes + codec->pieces_.size();
  if (needed > vocab_size) {
    return invalid_argument(
        fmt::format("vocab_size must be at least {} for a simulated model's text, is {}", needed,
                    vocab_size),
        "vocab_size");
  }
  const auto add = [&](std::string piece) {
    if (kBytes + codec->pieces_.size() < vocab_size) codec->add(std::move(piece));
  };
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz";
  for (const char a : kLetters) {
    add({' ', a});
    for (const char b : kLetters) {
      add({a, b});
      add({' ', a, b});
    }
  }
  for (const char a : kLetters) {
    for (const char b : kLetters) {
      for (const char c : kLetters)
        add({a, b, c});
    }
  }
  std::vector<text::VocabularyEntry> entries;
  for (std::size_t byte = 0; byte < kBytes; ++byte)
    entries.push_back({.text = byte_text(byte)});
  for (const std::string& piece : codec->pieces_)
    entries.push_back({.text = piece});
  entries[kBytes] = {.text = std::string(kEndText), .special = true};
  GIMBAL_ASSIGN_OR_RETURN(text::Vocabulary vocabulary, text::Vocabulary::make(entries, kDecoder));
  codec->vocabulary_ = std::make_unique<const text::Vocabulary>(std::move(vocabulary));
  return codec;
}

Result<std::vector<TokenId>> PieceCodec::encode(std::string_view text,
                                                bool /*add_special_tokens*/) const {
  std::vector<TokenId> tokens;
  tokens.reserve(text.size() / 3 + 1);
  std::string piece;
  while (!text.empty()) {
    TokenId token = static_cast<std::uint8_t>(text.front());
    std::size_t length = 1;
    for (std::size_t size = std::min(longest_, text.size()); size > 1; --size) {
      if (!is_letter(text[size - 1])) continue;  // all longer ones end with a letter
      piece.assign(text.substr(0, size));
      const auto found = ids_.find(piece);
      if (found == ids_.end()) continue;
      token = found->second;
      length = size;
      break;
    }
    tokens.push_back(token);
    text.remove_prefix(length);
  }
  return tokens;
}

Result<std::string> PieceCodec::render_chat(std::string_view messages_json,
                                            const text::RenderOptions& options) const {
  GIMBAL_ASSIGN_OR_RETURN(const Json messages, parse_json(messages_json));
  std::string prompt;
  for (const Json& message : messages) {
    const auto text_of = [&](const char* field) {
      const auto found = message.find(field);
      return found != message.end() && found->is_string() ? found->get<std::string>()
                                                          : std::string();
    };
    prompt += text_of("role") + "\n" + text_of("content") + "\n\n";
    if (prompt.size() > options.max_output_bytes) {
      return invalid_argument(
          fmt::format("messages must make a prompt of at most {} bytes", options.max_output_bytes),
          "messages");
    }
  }
  return prompt + (options.add_generation_prompt ? "assistant\n" : "");
}

}  // namespace gimbal::server
