#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "sched/request.h"
#include "server/openai_request.h"
#include "text/vocabulary.h"

namespace gimbal::server {

struct Usage {
  std::int64_t prompt_tokens = 0;
  std::int64_t completion_tokens = 0;
  std::int64_t cached_tokens = 0;  // of the prompt's
};

// What is said of one choice in one chunk, or in the whole answer.
struct ChoicePart {
  int index = 0;
  std::string_view text;
  bool first = false;  // of this choice: a chat chunk names the role
  // Present (perhaps empty) where log probabilities were asked for.
  std::optional<std::span<const sched::TokenLogprobs>> logprobs;
  std::optional<TokenId> unscored;           // the prompt's first token, before `logprobs`
  std::size_t text_offset = 0;               // characters of this choice's tokens in earlier chunks
  std::string_view finish_reason;            // empty: not finished
  const std::string* stop_string = nullptr;  // what ended it
  std::optional<TokenId> stop_token;         // what ended it
};

// Writes the answers to one request in OpenAI's format. Thread-compatible.
class ResponseWriter final {
 public:
  struct Identity {
    Endpoint endpoint = Endpoint::kCompletions;
    std::string id;
    std::string model;
    std::int64_t created = 0;  // seconds since 1970
    bool stream = false;
    bool usage_follows = false;  // chunks say "usage": null
    bool tokens_as_ids = false;
  };
  // `vocabulary` must outlive the writer.
  ResponseWriter(const Identity& identity, const text::Vocabulary& vocabulary);

  // One server-sent event each.
  void append_chunk(std::string& out, const ChoicePart& part) const;
  void append_usage_chunk(std::string& out, const Usage& usage) const;
  // The whole answer, not streamed.
  [[nodiscard]] std::string document(std::span<const ChoicePart> parts, const Usage& usage) const;

  // How many characters the tokens of `part` have; adds up to ChoicePart::text_offset.
  [[nodiscard]] std::size_t token_characters(const ChoicePart& part) const;

 private:
  void append_choice(std::string& out, const ChoicePart& part) const;
  void append_completion_logprobs(std::string& out, const ChoicePart& part) const;
  void append_chat_logprobs(std::string& out, const ChoicePart& part) const;
  void append_token_name(std::string& out, TokenId token) const;
  void append_chat_token(std::string& out, TokenId token, float logprob) const;

  Endpoint endpoint_;
  bool stream_;
  bool usage_follows_;
  bool tokens_as_ids_;
  const text::Vocabulary& vocabulary_;
  std::string opening_;  // of every chunk or document, up to the list of choices
};

inline constexpr std::string_view kStreamEnd = "data: [DONE]\n\n";
// A server-sent event that carries `json`.
void append_event(std::string& out, std::string_view json);

}  // namespace gimbal::server
