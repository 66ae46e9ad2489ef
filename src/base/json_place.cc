#include "base/json_place.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>

namespace gimbal {
namespace {

// Walks through a JSON text without making values of it.
class Walker {
 public:
  explicit Walker(std::string_view text) : text_(text) {
    if (text.starts_with("\xEF\xBB\xBF")) at_ = 3;
  }

  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != text_.npos)
      ++at_;
  }
  // At a string: its text as it is written, and goes behind it.
  std::string_view take_string() {
    const std::size_t begin = ++at_;
    while (at_ < text_.size() && text_[at_] != '"')
      at_ += text_[at_] == '\\' ? 2 : 1;
    const std::size_t end = std::min(at_, text_.size());
    at_ = std::min(at_ + 1, text_.size());
    return text_.substr(begin, end - begin);
  }
  // At any value: goes behind it.
  void skip_value() {
    int depth = 0;
    do {
      skip_space();
      const char c = peek();
      if (c == '"') {
        take_string();
      } else if (c == '{' || c == '[') {
        ++depth;
        ++at_;
      } else if (c == '}' || c == ']') {
        --depth;
        ++at_;
      } else if (c == ',' || c == ':') {
        ++at_;
      } else {
        while (at_ < text_.size() && std::string_view(",:]} \t\r\n").find(text_[at_]) == text_.npos)
          ++at_;
      }
    } while (depth > 0 && at_ < text_.size());
  }
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void step() { ++at_; }
  [[nodiscard]] std::size_t place() const { return at_; }

  // At an object: where the field's name stands, and goes to its value. nullopt: no such field.
  std::optional<std::size_t> enter_field(std::string_view name) {
    if (peek() != '{') return std::nullopt;
    std::optional<std::size_t> found;
    std::size_t value = 0;
    step();
    for (skip_space(); peek() == '"'; skip_space()) {
      const std::size_t begin = at_;
      const bool named = take_string() == name;
      skip_space();
      step();  // ':'
      skip_space();
      if (named) {
        found = begin;
        value = at_;
      }
      skip_value();
      skip_space();
      if (peek() == ',') step();
    }
    if (found) at_ = value;
    return found;
  }
  // At a list: goes to its entry. nullopt: no such entry.
  std::optional<std::size_t> enter_entry(std::size_t index) {
    if (peek() != '[') return std::nullopt;
    step();
    for (skip_space(); peek() != ']' && peek() != '\0'; skip_space()) {
      if (index-- == 0) return at_;
      skip_value();
      skip_space();
      if (peek() == ',') step();
    }
    return std::nullopt;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

// Where the last thing on the way begins that was found.
struct Found {
  std::size_t name = 0;  // of a field; else as `value`
  std::size_t value = 0;
};

Found find(std::string_view text, std::string_view path) {
  Walker walker(text);
  walker.skip_space();
  Found best{walker.place(), walker.place()};
  while (!path.empty()) {
    std::optional<std::size_t> found;
    if (path.front() == '[') {
      const std::size_t close = path.find(']');
      if (close == path.npos) break;
      std::size_t index = 0;
      std::from_chars(path.data() + 1, path.data() + close, index);
      path.remove_prefix(close + 1);
      found = walker.enter_entry(index);
    } else {
      if (path.front() == '.') path.remove_prefix(1);
      const std::size_t end = std::min(path.find_first_of(".["), path.size());
      found = walker.enter_field(path.substr(0, end));
      path.remove_prefix(end);
    }
    if (!found) break;
    walker.skip_space();
    best = {*found, walker.place()};
  }
  return best;
}

JsonPlace place_at(std::string_view text, std::size_t byte) {
  const std::string_view before = text.substr(0, byte);
  const auto line_begin = before.rfind('\n') + 1;  // 0 on the first line
  return {.line = 1 + static_cast<int>(std::count(before.begin(), before.end(), '\n')),
          .column = 1 + before.size() - line_begin};
}

}  // namespace

int json_line(std::string_view text, std::string_view path) {
  return place_at(text, find(text, path).name).line;
}

JsonPlace json_place(std::string_view text, std::string_view path) {
  return place_at(text, find(text, path).value);
}

std::size_t json_byte_deeper_than(std::string_view text, std::size_t depth) {
  std::size_t level = 0;
  bool in_string = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '"') in_string = !in_string;
    if (in_string) {
      if (c == '\\') ++at;
    } else if (c == '{' || c == '[') {
      if (++level > depth) return at + 1;
    } else if ((c == '}' || c == ']') && level > 0) {
      --level;
    }
  }
  return 0;
}

}  // namespace gimbal
