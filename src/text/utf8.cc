#include "text/utf8.h"

namespace gimbal::text {

Utf8Scanner::Outcome Utf8Scanner::next(std::uint8_t byte) {
  if (missing_ > 0) {
    const bool follows = byte >= low_ && byte <= high_;
    low_ = 0x80;
    high_ = 0xBF;
    if (!follows) {
      missing_ = 0;
      return Outcome::kInvalid;
    }
    return --missing_ == 0 ? Outcome::kComplete : Outcome::kPartial;
  }
  if (byte < 0x80) return Outcome::kComplete;
  if (byte < 0xC2 || byte > 0xF4) return Outcome::kInvalid;
  missing_ = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
  // Overlong forms, surrogates and what lies above U+10FFFF are cut off at the second byte.
  if (byte == 0xE0) low_ = 0xA0;
  if (byte == 0xED) high_ = 0x9F;
  if (byte == 0xF0) low_ = 0x90;
  if (byte == 0xF4) high_ = 0x8F;
  return Outcome::kPartial;
}

bool is_valid_utf8(std::string_view text) {
  Utf8Scanner scanner;
  for (const char byte : text) {
    if (scanner.next(static_cast<std::uint8_t>(byte)) == Utf8Scanner::Outcome::kInvalid) {
      return false;
    }
  }
  return scanner.between_characters();
}

void Utf8Repair::append(std::string_view bytes, std::string& out) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const bool in_character = !scanner_.between_characters();
    if (!in_character && static_cast<std::uint8_t>(bytes[i]) < 0x80) {  // most text: a run of ASCII
      const std::size_t begin = i;
      while (i < bytes.size() && static_cast<std::uint8_t>(bytes[i]) < 0x80)
        ++i;
      out.append(bytes.substr(begin, i - begin));
      --i;
      continue;
    }
    switch (scanner_.next(static_cast<std::uint8_t>(bytes[i]))) {
      case Utf8Scanner::Outcome::kComplete:
        out.append(pending_, pending_size_);
        pending_size_ = 0;
        out.push_back(bytes[i]);
        break;
      case Utf8Scanner::Outcome::kPartial:
        pending_[pending_size_++] = bytes[i];
        break;
      case Utf8Scanner::Outcome::kInvalid:
        out.append(kReplacementCharacter);
        pending_size_ = 0;
        if (in_character) --i;  // the byte may begin a character of its own
        break;
    }
  }
}

void Utf8Repair::finish(std::string& out) {
  if (pending_size_ > 0) out.append(kReplacementCharacter);
  *this = Utf8Repair();
}

}  // namespace gimbal::text
