#include "loadgen/completion_chunk.h"

#include "base/json.h"

namespace gimbal::loadgen {
namespace {

constexpr std::size_t kShownBytes = 200;

const Json* member(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::optional<std::int64_t> count_of(const Json& object, const char* name) {
  const Json* value = member(object, name);
  if (value == nullptr || !value->is_number_integer()) return {};
  return value->get<std::int64_t>();
}

std::string text_of(const Json& choice) {
  const Json* text = member(choice, "text");
  if (text == nullptr) {
    const Json* delta = member(choice, "delta");
    if (delta != nullptr) text = member(*delta, "content");
  }
  return text != nullptr && text->is_string() ? text->get<std::string>() : std::string();
}

std::string message_of(const Json& error) {
  if (error.is_string()) return error.get<std::string>();
  const Json* message = member(error, "message");
  return message != nullptr && message->is_string() ? message->get<std::string>() : excerpt(error);
}

}  // namespace

Result<CompletionChunk> parse_completion_chunk(std::string_view data) {
  GIMBAL_ASSIGN_OR_RETURN(const Json document, parse_json(data, {.unique_keys = false}));
  if (!document.is_object()) {
    return invalid_argument("a chunk is an object, not " + excerpt(document));
  }
  CompletionChunk chunk;
  if (const Json* error = member(document, "error")) chunk.error = message_of(*error);
  const Json* choices = member(document, "choices");
  if (choices != nullptr && choices->is_array() && !choices->empty()) {
    chunk.has_choice = true;
    chunk.text = text_of(choices->front());
  }
  if (const Json* usage = member(document, "usage")) {
    chunk.usage =
        TokenUsage{.prompt_tokens = count_of(*usage, "prompt_tokens").value_or(0),
                   .completion_tokens = count_of(*usage, "completion_tokens").value_or(0)};
    if (const Json* details = member(*usage, "prompt_tokens_details")) {
      chunk.usage->cached_tokens = count_of(*details, "cached_tokens");
    }
  }
  return chunk;
}

std::string error_message(std::string_view body) {
  const auto document = parse_json(body, {.unique_keys = false});
  if (document.ok()) {
    if (const Json* error = member(*document, "error")) return message_of(*error);
    if (const Json* message = member(*document, "message"); message && message->is_string()) {
      return message->get<std::string>();
    }
  }
  return std::string(body.substr(0, kShownBytes));
}

}  // namespace gimbal::loadgen
