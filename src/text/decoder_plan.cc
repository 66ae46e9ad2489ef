#include "text/decoder_plan.h"

#include <fmt/format.h>

#include <array>

#include "base/json.h"
#include "text/utf8.h"

namespace gimbal::text {
namespace {

constexpr std::string_view kField = "decoder";

bool is_one_character(std::string_view text) {
  if (!is_valid_utf8(text) || text.empty()) return false;
  std::size_t characters = 0;
  for (const char byte : text) {
    if ((static_cast<std::uint8_t>(byte) & 0xC0) != 0x80) ++characters;
  }
  return characters == 1;
}

// Collects steps in the order in which the decoders run.
class PlanBuilder {
 public:
  Result<void> add(const Json& decoder, const std::string& path) {
    GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(decoder, path));
    std::string type;
    GIMBAL_RETURN_IF_ERROR(object.read("type", type));
    if (type == "Sequence") return add_sequence(object);
    if (type == "Fuse") return fuse();
    if (type == "ByteLevel") return add_assembly(ByteAssembly::kByteLevel, type);
    if (type == "ByteFallback") return add_assembly(ByteAssembly::kByteFallback, type);
    if (type == "Replace") return add_replace(object);
    if (type == "Strip") return add_strip(object);
    if (type == "Metaspace") return add_metaspace(object);
    return unsupported(
        fmt::format("{} must be ByteLevel, ByteFallback, Metaspace, Replace, Strip, Fuse or a "
                    "Sequence of them, is {}",
                    object.path_of("type"), type.empty() ? "absent" : type),
        object.path_of("type"));
  }

  DecoderPlan take() { return std::move(plan_); }

 private:
  Result<void> add_sequence(JsonObject& object) {
    const Json* decoders = object.raw("decoders");
    if (decoders == nullptr || !decoders->is_array()) return object.wrong("decoders", "a list");
    for (std::size_t i = 0; i < decoders->size(); ++i) {
      GIMBAL_RETURN_IF_ERROR(
          add((*decoders)[i], fmt::format("{}[{}]", object.path_of("decoders"), i)));
    }
    return {};
  }

  Result<void> fuse() {
    fused_ = true;
    tokens_alone_ = false;
    return {};
  }

  Result<void> add_assembly(ByteAssembly assembly, const std::string& type) {
    if (!tokens_alone_) {
      return unsupported(
          fmt::format("{}: {} after a decoder that joins tokens or looks at their order", kField,
                      type),
          std::string(kField));
    }
    plan_.assembly = assembly;
    tokens_alone_ = false;
    fused_ = assembly == ByteAssembly::kByteLevel;
    return {};
  }

  Result<void> add_replace(JsonObject& object) {
    DecoderStep step{.kind = DecoderStep::Kind::kReplace};
    const Json* pattern = object.raw("pattern");
    if (pattern == nullptr || !pattern->is_object() || !pattern->contains("String") ||
        !(*pattern)["String"].is_string() ||
        (*pattern)["String"].get_ref<const std::string&>().empty()) {
      Error error = object.wrong("pattern", "{\"String\": text}");
      error.code = ErrorCode::kUnsupported;
      return error;
    }
    step.pattern = (*pattern)["String"].get<std::string>();
    GIMBAL_RETURN_IF_ERROR(object.read("content", step.content));
    // Over a border between tokens only a single character is sure to be seen whole.
    if (fused_ && !is_one_character(step.pattern)) {
      Error error = object.wrong("pattern", "one character after Fuse");
      error.code = ErrorCode::kUnsupported;
      return error;
    }
    return add_step(std::move(step));
  }

  Result<void> add_strip(JsonObject& object) {
    DecoderStep step{.kind = DecoderStep::Kind::kStripStart};
    GIMBAL_RETURN_IF_ERROR(object.read("content", step.pattern));
    if (!is_one_character(step.pattern)) return object.wrong("content", "one character");
    GIMBAL_ASSIGN_OR_RETURN(const auto start, object.integer("start", 0, 1 << 20));
    GIMBAL_ASSIGN_OR_RETURN(const auto stop, object.integer("stop", 0, INT64_MAX));
    if (stop.value_or(0) != 0) {
      Error error = object.wrong("stop", "0");
      error.code = ErrorCode::kUnsupported;
      return error;
    }
    step.count = static_cast<std::size_t>(start.value_or(0));
    return add_step(std::move(step));
  }

  Result<void> add_metaspace(JsonObject& object) {
    DecoderStep step{.kind = DecoderStep::Kind::kMetaspace};
    step.pattern = "\xE2\x96\x81";  // U+2581
    GIMBAL_RETURN_IF_ERROR(object.read("replacement", step.pattern));
    if (!is_one_character(step.pattern)) return object.wrong("replacement", "one character");
    std::string scheme = "always";
    GIMBAL_RETURN_IF_ERROR(object.read("prepend_scheme", scheme));
    step.content = scheme == "never" ? " " : "";
    tokens_alone_ = false;
    if (fused_) step.kind = DecoderStep::Kind::kReplace;  // the whole text is the first token
    return add_step(std::move(step));
  }

  Result<void> add_step(DecoderStep step) {
    step.fused = fused_;
    (tokens_alone_ ? plan_.per_token : plan_.in_order).push_back(std::move(step));
    return {};
  }

  DecoderPlan plan_;
  bool tokens_alone_ = true;  // nothing so far has looked beyond single tokens
  bool fused_ = false;
};

// GPT-2's map: printable characters of Latin-1 stand for themselves, the other 68 bytes for U+0100
// and what follows. Index: code point; -1: not in the map.
constexpr std::array<std::int16_t, 0x144> make_byte_of_character() {
  std::array<std::int16_t, 0x144> map{};
  for (auto& entry : map)
    entry = -1;
  std::size_t next = 0x100;
  for (std::int16_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    map[printable ? static_cast<std::size_t>(byte) : next++] = byte;
  }
  return map;
}
constexpr auto kByteOfCharacter = make_byte_of_character();

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Result<DecoderPlan> parse_decoder(std::string_view decoder_json) {
  GIMBAL_ASSIGN_OR_RETURN(const Json decoder, parse_json(decoder_json));
  if (decoder.is_null()) {
    DecoderPlan plan;
    plan.in_order.push_back({.kind = DecoderStep::Kind::kJoinSpaces});
    return plan;
  }
  PlanBuilder builder;
  GIMBAL_RETURN_IF_ERROR(builder.add(decoder, std::string(kField)));
  return builder.take();
}

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string replaced;
  std::size_t from = 0;
  for (std::size_t at; (at = text.find(pattern, from)) != std::string_view::npos;
       from = at + pattern.size()) {
    replaced.append(text.substr(from, at - from)).append(content);
  }
  replaced.append(text.substr(from));
  return replaced;
}

std::size_t leading_bytes(std::string_view text, std::string_view pattern, std::size_t count) {
  std::size_t bytes = 0;
  for (; count > 0 && text.substr(bytes).starts_with(pattern); --count)
    bytes += pattern.size();
  return bytes;
}

std::optional<std::uint8_t> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  // The library's number parser also takes a plus sign before a single digit.
  const int high = token[3] == '+' ? 0 : hex_digit(token[3]);
  const int low = hex_digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<std::uint8_t>(high * 16 + low);
}

std::string byte_level_bytes(std::string_view token) {
  std::string bytes;
  for (std::size_t i = 0; i < token.size(); ++i) {
    std::size_t character = static_cast<std::uint8_t>(token[i]);
    if (character >= 0xC0 && character < 0xE0 && i + 1 < token.size()) {
      character = (character & 0x1F) << 6 | (static_cast<std::uint8_t>(token[++i]) & 0x3F);
    } else if (character >= 0x80) {
      return std::string(token);
    }
    if (character >= kByteOfCharacter.size() || kByteOfCharacter[character] < 0) {
      return std::string(token);
    }
    bytes.push_back(static_cast<char>(kByteOfCharacter[character]));
  }
  return bytes;
}

}  // namespace gimbal::text
