#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gimbal::text {

// U+FFFD, the replacement character, in UTF-8.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// Follows a byte stream through UTF-8's well-formed sequences (Unicode 15, table 3-7). Value type.
class Utf8Scanner {
 public:
  enum class Outcome {
    kComplete,  // the byte ended a character
    kPartial,   // the byte belongs to a character that needs more bytes
    kInvalid,   // the byte cannot follow; the scanner is between characters again
  };
  Outcome next(std::uint8_t byte);
  [[nodiscard]] bool between_characters() const { return missing_ == 0; }

 private:
  std::uint8_t missing_ = 0;  // bytes until the character is complete
  std::uint8_t low_ = 0x80;   // what the next byte may be
  std::uint8_t high_ = 0xBF;
};

[[nodiscard]] bool is_valid_utf8(std::string_view text);

// Turns a stream of bytes into valid UTF-8: each maximal part of an ill-formed sequence becomes one
// U+FFFD, which is what Rust's String::from_utf8_lossy does with the whole. Never writes half a
// character. Value type.
class Utf8Repair {
 public:
  void append(std::string_view bytes, std::string& out);
  // The stream is over: a character begun and not ended becomes one U+FFFD.
  void finish(std::string& out);

 private:
  Utf8Scanner scanner_;
  char pending_[3] = {};  // the bytes of the character that is not complete
  std::uint8_t pending_size_ = 0;
};

}  // namespace gimbal::text
