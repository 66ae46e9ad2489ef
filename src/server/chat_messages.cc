#include "server/chat_messages.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "base/json.h"

namespace gimbal::server {
namespace {

bool asks_for_nothing(const Json* value) {
  return value == nullptr || (value->is_structured() && value->empty());
}

// The text of a list of content parts.
Result<std::string> read_parts(const Json& parts, const std::string& path) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    GIMBAL_ASSIGN_OR_RETURN(JsonObject part,
                            JsonObject::of(parts[i], fmt::format("{}[{}]", path, i)));
    GIMBAL_ASSIGN_OR_RETURN(const auto type, part.string("type"));
    if (!type) return part.wrong("type", "a string");
    if (*type != "text") {
      return unsupported(fmt::format("{} must be \"text\" (this server reads text only), is {}",
                                     part.path_of("type"), excerpt(Json(*type))),
                         part.path_of("type"));
    }
    GIMBAL_ASSIGN_OR_RETURN(const auto part_text, part.string("text"));
    if (!part_text) return part.wrong("text", "a string");
    if (i > 0) text += '\n';
    text += *part_text;
  }
  return text;
}

Result<std::string> read_role(JsonObject& message) {
  GIMBAL_ASSIGN_OR_RETURN(auto role, message.string("role"));
  if (!role) return message.wrong("role", "a string");
  if (*role == "developer") return std::string("system");
  if (*role == "tool" || *role == "function") {
    return unsupported(
        fmt::format("{} must be system, developer, user or assistant (tools are not supported), "
                    "is {}",
                    message.path_of("role"), *role),
        message.path_of("role"));
  }
  if (*role != "system" && *role != "user" && *role != "assistant") {
    return message.wrong("role", "system, developer, user or assistant");
  }
  return std::move(*role);
}

Result<Json> read_message(const Json& value, std::string path) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject message, JsonObject::of(value, std::move(path)));
  Json plain = Json::object();
  GIMBAL_ASSIGN_OR_RETURN(const std::string role, read_role(message));
  plain["role"] = role;
  for (const char* field : {"tool_calls", "function_call", "audio"}) {
    const Json* asked = message.raw(field);
    if (!asks_for_nothing(asked)) {
      return unsupported(
          fmt::format("{} is not supported, is {}", message.path_of(field), excerpt(*asked)),
          message.path_of(field));
    }
  }
  const Json* content = message.raw("content");
  if (content == nullptr) {
    if (role != "assistant") return message.wrong("content", "a string or a list of parts");
    plain["content"] = "";
  } else if (content->is_string()) {
    plain["content"] = *content;
  } else if (content->is_array()) {
    GIMBAL_ASSIGN_OR_RETURN(plain["content"], read_parts(*content, message.path_of("content")));
  } else {
    return message.wrong("content", "a string or a list of parts");
  }
  for (const char* field : {"name", "reasoning_content"}) {
    GIMBAL_ASSIGN_OR_RETURN(auto text, message.string(field));
    if (text) plain[field] = std::move(*text);
  }
  return plain;
}

}  // namespace

Result<std::string> read_messages(JsonObject& request) {
  const Json* messages = request.raw("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    return request.wrong("messages", "a list of at least one message");
  }
  Json plain = Json::array();
  for (std::size_t i = 0; i < messages->size(); ++i) {
    GIMBAL_ASSIGN_OR_RETURN(
        Json message,
        read_message((*messages)[i], fmt::format("{}[{}]", request.path_of("messages"), i)));
    plain.push_back(std::move(message));
  }
  return plain.dump();
}

}  // namespace gimbal::server
