#include "server/openai_response.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "server/json_text.h"
#include "text/utf8.h"

namespace gimbal::server {
namespace {

constexpr float kLeastLogprob = -9999.0F;  // JSON has no infinity

void append_integer(std::string& out, std::int64_t value) {
  const fmt::format_int text(value);
  out.append(text.data(), text.size());
}

void append_logprob(std::string& out, float logprob) {
  if (!(logprob > kLeastLogprob)) logprob = kLeastLogprob;
  fmt::format_to(std::back_inserter(out), "{}", std::min(logprob, 0.0F));
}

// A token's bytes as text that can stand alone.
std::string token_text(std::string_view bytes) {
  if (text::is_valid_utf8(bytes)) return std::string(bytes);
  std::string repaired;
  text::Utf8Repair repair;
  repair.append(bytes, repaired);
  repair.finish(repaired);
  return repaired;
}

std::size_t characters(std::string_view utf8) {
  return static_cast<std::size_t>(
      std::count_if(utf8.begin(), utf8.end(), [](char byte) { return (byte & 0xC0) != 0x80; }));
}

void append_usage(std::string& out, const Usage& usage) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},)"
                 R"("prompt_tokens_details":{{"cached_tokens":{}}}}})",
                 usage.prompt_tokens, usage.completion_tokens,
                 usage.prompt_tokens + usage.completion_tokens, usage.cached_tokens);
}

std::string_view object_name(Endpoint endpoint, bool stream) {
  if (endpoint == Endpoint::kCompletions) return "text_completion";
  return stream ? "chat.completion.chunk" : "chat.completion";
}

}  // namespace

void append_event(std::string& out, std::string_view json) {
  out += "data: ";
  out += json;
  out += "\n\n";
}

ResponseWriter::ResponseWriter(const Identity& identity, const text::Vocabulary& vocabulary)
    : endpoint_(identity.endpoint),
      stream_(identity.stream),
      usage_follows_(identity.usage_follows),
      tokens_as_ids_(identity.tokens_as_ids),
      vocabulary_(vocabulary) {
  opening_ = fmt::format(R"({{"id":"{}","object":"{}","created":{},"model":)", identity.id,
                         object_name(endpoint_, stream_), identity.created);
  append_json_string(opening_, identity.model);
  opening_ += R"(,"system_fingerprint":"fp_gimbal","choices":[)";
}

void ResponseWriter::append_chunk(std::string& out, const ChoicePart& part) const {
  out += "data: ";
  out += opening_;
  append_choice(out, part);
  out += usage_follows_ ? R"(],"usage":null})" : "]}";
  out += "\n\n";
}

void ResponseWriter::append_usage_chunk(std::string& out, const Usage& usage) const {
  out += "data: ";
  out += opening_;
  out += R"(],"usage":)";
  append_usage(out, usage);
  out += "}\n\n";
}

std::string ResponseWriter::document(std::span<const ChoicePart> parts, const Usage& usage) const {
  std::string out = opening_;
  for (const ChoicePart& part : parts) {
    if (&part != parts.data()) out += ',';
    append_choice(out, part);
  }
  out += R"(],"usage":)";
  append_usage(out, usage);
  out += '}';
  return out;
}

void ResponseWriter::append_choice(std::string& out, const ChoicePart& part) const {
  out += R"({"index":)";
  append_integer(out, part.index);
  if (endpoint_ == Endpoint::kCompletions) {
    out += R"(,"text":)";
    append_json_string(out, part.text);
  } else if (stream_) {
    out += part.first ? R"(,"delta":{"role":"assistant","content":)" : R"(,"delta":{"content":)";
    append_json_string(out, part.text);
    out += '}';
  } else {
    out += R"(,"message":{"role":"assistant","content":)";
    append_json_string(out, part.text);
    out += R"(,"refusal":null})";
  }
  out += R"(,"logprobs":)";
  if (!part.logprobs) {
    out += "null";
  } else if (endpoint_ == Endpoint::kCompletions) {
    append_completion_logprobs(out, part);
  } else {
    append_chat_logprobs(out, part);
  }
  if (part.finish_reason.empty()) {
    out += R"(,"finish_reason":null})";
    return;
  }
  out += R"(,"finish_reason":)";
  append_json_string(out, part.finish_reason);
  out += R"(,"stop_reason":)";
  if (part.stop_string != nullptr) {
    append_json_string(out, *part.stop_string);
  } else if (part.stop_token) {
    append_integer(out, *part.stop_token);
  } else {
    out += "null";
  }
  out += '}';
}

void ResponseWriter::append_token_name(std::string& out, TokenId token) const {
  if (tokens_as_ids_) {
    fmt::format_to(std::back_inserter(out), R"("token_id:{}")", token);
  } else {
    append_json_string(out, vocabulary_.token_bytes(token));
  }
}

void ResponseWriter::append_completion_logprobs(std::string& out, const ChoicePart& part) const {
  std::string values;
  std::string tops;
  std::string offsets;
  std::size_t offset = part.text_offset;
  bool begun = false;
  const auto begin_entry = [&](TokenId token) {
    if (begun) {
      for (std::string* list : {&out, &values, &tops, &offsets})
        *list += ',';
    }
    begun = true;
    append_token_name(out, token);
    append_integer(offsets, static_cast<std::int64_t>(offset));
    offset += characters(token_text(vocabulary_.token_bytes(token)));
  };
  out += R"({"tokens":[)";
  if (part.unscored) {
    begin_entry(*part.unscored);
    values += "null";
    tops += "null";
  }
  for (const sched::TokenLogprobs& entry : *part.logprobs) {
    begin_entry(entry.token);
    append_logprob(values, entry.logprob);
    // Keys may coincide, because bytes that are not UTF-8 alone all look alike: the first counts.
    std::vector<std::string> keys;
    tops += '{';
    const auto add = [&](TokenId token, float logprob) {
      std::string key;
      append_token_name(key, token);
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) return;
      if (!keys.empty()) tops += ',';
      tops += key;
      tops += ':';
      append_logprob(tops, logprob);
      keys.push_back(std::move(key));
    };
    for (const auto& [token, logprob] : entry.top)
      add(token, logprob);
    add(entry.token, entry.logprob);
    tops += '}';
  }
  out += R"(],"token_logprobs":[)" + values + R"(],"top_logprobs":[)" + tops +
         R"(],"text_offset":[)" + offsets + "]}";
}

void ResponseWriter::append_chat_token(std::string& out, TokenId token, float logprob) const {
  out += R"({"token":)";
  append_token_name(out, token);
  out += R"(,"logprob":)";
  append_logprob(out, logprob);
  out += R"(,"bytes":[)";
  bool begun = false;
  for (const char byte : vocabulary_.token_bytes(token)) {
    if (begun) out += ',';
    begun = true;
    append_integer(out, static_cast<std::uint8_t>(byte));
  }
  out += ']';
}

void ResponseWriter::append_chat_logprobs(std::string& out, const ChoicePart& part) const {
  out += R"({"content":[)";
  bool begun = false;
  for (const sched::TokenLogprobs& entry : *part.logprobs) {
    if (begun) out += ',';
    begun = true;
    append_chat_token(out, entry.token, entry.logprob);
    out += R"(,"top_logprobs":[)";
    for (const auto& [token, logprob] : entry.top) {
      if (&token != &entry.top.front().first) out += ',';
      append_chat_token(out, token, logprob);
      out += '}';
    }
    out += "]}";
  }
  out += R"(],"refusal":null})";
}

std::size_t ResponseWriter::token_characters(const ChoicePart& part) const {
  std::size_t sum = 0;
  const auto count = [&](TokenId token) {
    sum += characters(token_text(vocabulary_.token_bytes(token)));
  };
  if (part.unscored) count(*part.unscored);
  if (part.logprobs) {
    for (const sched::TokenLogprobs& entry : *part.logprobs)
      count(entry.token);
  }
  return sum;
}

}  // namespace gimbal::server
