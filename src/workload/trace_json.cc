#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "base/hash.h"
#include "base/json.h"
#include "base/json_place.h"
#include "workload/trace_rows.h"

namespace gimbal::workload {
namespace {

// Streams of identities: a block of a trace, and what is of one prompt alone.
constexpr std::uint64_t kBlocks = 0x626c6f636b;
constexpr std::uint64_t kRests = 0x72657374;

// Calls `row` with each line's object. Errors get "line N, column C: " before them: where the field
// begins that is wrong, or the object that lacks it.
Result<void> for_each_line(std::string_view text, std::size_t max_rows,
                           const std::function<Result<void>(JsonObject&)>& row) {
  std::size_t line = 0;
  std::size_t rows = 0;
  while (!text.empty() && (max_rows == 0 || rows < max_rows)) {
    const auto end = text.find('\n');
    std::string_view one = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++line;
    if (one.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    std::size_t column = 0;
    const auto place = [&] { return fmt::format("line {}, column {}", line, column); };
    const auto document = parse_json(one, {.unique_keys = false}, column);
    if (!document.ok()) return document.error().within(place());
    auto object = JsonObject::of(*document);
    const Result<void> done = object.ok() ? row(*object) : object.error();
    if (!done.ok()) {
      column = json_place(one, done.error().field).column;
      return done.error().within(place());
    }
    ++rows;
  }
  return {};
}

Result<std::int64_t> required_integer(JsonObject& object, const char* name, std::int64_t high) {
  GIMBAL_ASSIGN_OR_RETURN(const auto value, object.integer(name, 0, high));
  if (!value) return object.wrong(name, "an integer");
  return *value;
}

Result<Duration> required_time(JsonObject& object, const char* name, double unit_seconds) {
  GIMBAL_ASSIGN_OR_RETURN(const auto value,
                          object.number(name, 0.0, kMaxTraceSeconds / unit_seconds));
  if (!value) return object.wrong(name, "a number");
  return Duration{std::llround(*value * unit_seconds * 1e9)};
}

Result<std::vector<std::int64_t>> hash_ids(JsonObject& object) {
  const Json* list = object.raw("hash_ids");
  if (list == nullptr || !list->is_array()) return object.wrong("hash_ids", "a list of integers");
  std::vector<std::int64_t> ids;
  for (std::size_t i = 0; i < list->size(); ++i) {
    const Json& id = (*list)[i];
    if (!id.is_number_integer()) {
      const std::string place = fmt::format("hash_ids[{}]", i);
      return invalid_argument(fmt::format("{} must be an integer, is {}", place, excerpt(id)),
                              place);
    }
    ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

// Blocks as parts. Tokens beyond the last whole named block belong to this prompt alone, unless the
// trace names that block too.
Result<std::vector<PromptPart>> parts_of_blocks(const std::vector<std::int64_t>& ids,
                                                std::int64_t tokens, std::int64_t block_size,
                                                std::size_t row) {
  const std::int64_t blocks = (tokens + block_size - 1) / block_size;
  if (static_cast<std::int64_t>(ids.size()) > blocks) {
    return invalid_argument(
        fmt::format("hash_ids has {} blocks, but {} tokens have {} blocks of {} (--block-size)",
                    ids.size(), tokens, blocks, block_size),
        "hash_ids");
  }
  std::vector<PromptPart> parts;
  std::int64_t left = tokens;
  for (const std::int64_t id : ids) {
    const std::int64_t length = std::min(left, block_size);
    parts.push_back(
        {.identity = hash_combine(kBlocks, static_cast<std::uint64_t>(id)), .tokens = length});
    left -= length;
  }
  if (left > 0) parts.push_back({.identity = hash_combine(kRests, row), .tokens = left});
  return parts;
}

// 512 or 16, whichever gives as many blocks as the row names.
std::int64_t guess_block_size(std::int64_t tokens, std::size_t blocks) {
  const auto count = static_cast<std::int64_t>(blocks);
  return (tokens + 511) / 512 >= count ? 512 : 16;
}

// "line N, column C: entry I: …"
Error in_entry(std::string_view text, std::size_t entry, const Error& error) {
  const JsonPlace place = json_place(text, fmt::format("[{}].{}", entry, error.field));
  return error.within(fmt::format("line {}, column {}: entry {}", place.line, place.column, entry));
}

// The first message of a conversation is the user's, the second the assistant's.
Result<const Json*> message_value(const Json& conversation, std::size_t index) {
  const Json& message = conversation[index];
  const std::string place = fmt::format("conversations[{}]", index);
  if (!message.is_object()) {
    return invalid_argument(fmt::format("{} must be an object, is {}", place, excerpt(message)),
                            place);
  }
  const auto value = message.find("value");
  if (value == message.end() || !value->is_string()) {
    return invalid_argument(fmt::format("{}.value must be a string", place), place + ".value");
  }
  return &*value;
}

// False: a conversation without an answer.
Result<bool> read_conversation(const Json& entry, RequestSpec& request, std::string& answer) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(entry));
  const Json* conversation = object.raw("conversations");
  if (conversation == nullptr || !conversation->is_array()) {
    return object.wrong("conversations", "a list of messages");
  }
  if (conversation->size() < 2) return false;
  GIMBAL_ASSIGN_OR_RETURN(const Json* const prompt, message_value(*conversation, 0));
  GIMBAL_ASSIGN_OR_RETURN(const Json* const reply, message_value(*conversation, 1));
  request.text = prompt->get<std::string>();
  answer = reply->get<std::string>();
  return true;
}

Result<PromptPart> parse_part(const Json& value, std::size_t index) {
  const auto wrong = [&] {
    return invalid_argument(
        fmt::format("prompt[{}] must be [identity, tokens, topic], is {}", index, excerpt(value)),
        fmt::format("prompt[{}]", index));
  };
  const bool shape = value.is_array() && value.size() == 3 && value[0].is_number_unsigned() &&
                     value[1].is_number_unsigned() && value[2].is_number_integer();
  if (!shape) return wrong();
  const auto tokens = value[1].get<std::uint64_t>();
  const auto topic = value[2].get<std::int64_t>();
  if (tokens < 1 || tokens > static_cast<std::uint64_t>(kMaxTraceTokens)) return wrong();
  if (topic < kAnyTopic || topic > 1'000'000) return wrong();
  return PromptPart{.identity = value[0].get<std::uint64_t>(),
                    .tokens = static_cast<std::int64_t>(tokens),
                    .topic = static_cast<int>(topic)};
}

Result<RequestSpec> parse_gimbal_row(JsonObject& object) {
  RequestSpec request;
  GIMBAL_ASSIGN_OR_RETURN(request.arrival, required_time(object, "timestamp", 1e-3));
  GIMBAL_ASSIGN_OR_RETURN(request.output_tokens,
                          required_integer(object, "output_length", kMaxTraceTokens));
  if (request.output_tokens < 1) return object.wrong("output_length", "at least 1");
  const Json* prompt = object.raw("prompt");
  if (prompt == nullptr || !prompt->is_array() || prompt->empty()) {
    return object.wrong("prompt", "a list of parts");
  }
  for (std::size_t i = 0; i < prompt->size(); ++i) {
    GIMBAL_ASSIGN_OR_RETURN(const PromptPart part, parse_part((*prompt)[i], i));
    request.prompt.push_back(part);
  }
  GIMBAL_ASSIGN_OR_RETURN(const auto length, required_integer(object, "input_length", INT64_MAX));
  if (length != request.prompt_tokens()) {
    return object.wrong("input_length",
                        fmt::format("the sum of the prompt's parts, {}", request.prompt_tokens()));
  }
  GIMBAL_RETURN_IF_ERROR(object.read("user", request.user));
  GIMBAL_RETURN_IF_ERROR(object.read("text", request.text));
  std::string traffic_class;
  GIMBAL_RETURN_IF_ERROR(object.read("class", traffic_class));
  GIMBAL_ASSIGN_OR_RETURN(request.traffic_class, parse_traffic_class(traffic_class));
  GIMBAL_ASSIGN_OR_RETURN(const auto source, object.integer("source", 0, 1'000'000));
  if (source) request.source = static_cast<int>(*source);
  return request;
}

}  // namespace

Result<Workload> parse_mooncake(std::string_view text, const TraceOptions& options) {
  Workload workload{.has_arrivals = true, .has_prefixes = true};
  std::optional<std::int64_t> block_size = options.block_size;
  const auto row = [&](JsonObject& object) -> Result<void> {
    RequestSpec request;
    GIMBAL_ASSIGN_OR_RETURN(request.arrival, required_time(object, "timestamp", 1e-3));
    GIMBAL_ASSIGN_OR_RETURN(const auto tokens,
                            required_integer(object, "input_length", kMaxTraceTokens));
    GIMBAL_ASSIGN_OR_RETURN(request.output_tokens,
                            required_integer(object, "output_length", kMaxTraceTokens));
    GIMBAL_ASSIGN_OR_RETURN(const auto ids, hash_ids(object));
    if (tokens == 0 || request.output_tokens == 0) {
      ++workload.skipped_rows;
      return {};
    }
    if (!block_size) block_size = guess_block_size(tokens, ids.size());
    GIMBAL_ASSIGN_OR_RETURN(request.prompt,
                            parts_of_blocks(ids, tokens, *block_size, workload.requests.size()));
    workload.requests.push_back(std::move(request));
    return {};
  };
  GIMBAL_RETURN_IF_ERROR(for_each_line(text, options.max_requests, row));
  return workload;
}

Result<Workload> parse_bailian(std::string_view text, const TraceOptions& options) {
  Workload workload{.has_arrivals = true, .has_prefixes = true};
  std::unordered_map<std::int64_t, std::int64_t> first_chat;  // of the conversation a chat is in
  const auto row = [&](JsonObject& object) -> Result<void> {
    RequestSpec request;
    GIMBAL_ASSIGN_OR_RETURN(request.arrival, required_time(object, "timestamp", 1.0));
    GIMBAL_ASSIGN_OR_RETURN(const auto tokens,
                            required_integer(object, "input_length", kMaxTraceTokens));
    GIMBAL_ASSIGN_OR_RETURN(request.output_tokens,
                            required_integer(object, "output_length", kMaxTraceTokens));
    GIMBAL_ASSIGN_OR_RETURN(const auto ids, hash_ids(object));
    GIMBAL_ASSIGN_OR_RETURN(const auto chat, object.integer("chat_id", 0, INT64_MAX));
    GIMBAL_ASSIGN_OR_RETURN(const auto parent, object.integer("parent_chat_id", -1, INT64_MAX));
    if (!chat) return object.wrong("chat_id", "an integer");
    const auto known = first_chat.find(parent.value_or(-1));
    const std::int64_t first = known == first_chat.end() ? *chat : known->second;
    first_chat[*chat] = first;
    if (tokens == 0 || request.output_tokens == 0) {
      ++workload.skipped_rows;
      return {};
    }
    GIMBAL_ASSIGN_OR_RETURN(
        request.prompt,
        parts_of_blocks(ids, tokens, options.block_size.value_or(16), workload.requests.size()));
    request.user = fmt::format("chat-{}", first);
    workload.requests.push_back(std::move(request));
    return {};
  };
  GIMBAL_RETURN_IF_ERROR(for_each_line(text, options.max_requests, row));
  return workload;
}

Result<Workload> parse_gimbal(std::string_view text, const TraceOptions& options) {
  Workload workload{.has_arrivals = true};
  std::unordered_set<std::uint64_t> beginnings;
  const auto row = [&](JsonObject& object) -> Result<void> {
    GIMBAL_ASSIGN_OR_RETURN(RequestSpec request, parse_gimbal_row(object));
    const bool fresh = beginnings.insert(request.prompt.front().identity).second;
    workload.has_prefixes = workload.has_prefixes || !fresh;
    workload.requests.push_back(std::move(request));
    return {};
  };
  GIMBAL_RETURN_IF_ERROR(for_each_line(text, options.max_requests, row));
  return workload;
}

Result<Workload> parse_share_gpt(std::string_view text, const TraceOptions& options) {
  GIMBAL_ASSIGN_OR_RETURN(const Json document, parse_json(text, {.unique_keys = false}));
  if (!document.is_array()) return invalid_argument("must be a list of conversations");
  Workload workload{.estimated_lengths = !options.count_tokens};
  const auto tokens_of = [&](const std::string& words) -> std::int64_t {
    if (options.count_tokens) return options.count_tokens(words);
    return static_cast<std::int64_t>((words.size() + 3) / 4);
  };
  for (std::size_t i = 0; i < document.size(); ++i) {
    if (options.max_requests > 0 && workload.requests.size() >= options.max_requests) break;
    RequestSpec request;
    std::string answer;
    const auto read = read_conversation(document[i], request, answer);
    if (!read.ok()) return in_entry(text, i, read.error());
    const std::size_t before = workload.requests.size();
    if (*read) {
      add_plain_row(workload, Duration{}, tokens_of(request.text), tokens_of(answer));
    } else {
      ++workload.skipped_rows;
    }
    if (workload.requests.size() > before) {
      workload.requests.back().text = std::move(request.text);
    }
  }
  return workload;
}

}  // namespace gimbal::workload
