#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "server/choice_text.h"
#include "server/http_message.h"
#include "server/openai_response.h"
#include "server/prepared_request.h"
#include "server/serving_context.h"

namespace gimbal::server {

// One request to a generating endpoint, from its body to the last byte of the answer: prompts to
// tokens, one engine request a choice, tokens to text, stop strings, chunks or one document. What a
// stream generates within ServerOptions::stream_interval of its last write waits for its end.
// Destroying it cancels what still runs in the engine. One thread: the exchange's loop.
class Generation final : public HttpJob, public TokenReceiver {
 public:
  // `extra_headers` go with every answer. What is referred to must outlive the generation.
  Generation(Endpoint endpoint, HttpExchange& exchange, ServingContext& context,
             std::string extra_headers);
  ~Generation() override;
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // Begins. Small bodies are read at once, large ones on the worker thread. `engine`: of several,
  // the one that has to take the request; -1: any may.
  void start(std::string body, int engine = -1);

  void on_output(int choice, cluster::TokenOutput& output, TimePoint now) override;
  void on_delivered() override;
  void on_wake() override;

 private:
  using Prepared = std::variant<PreparedRequest, ApiError>;

  struct Choice {
    Choice(int place, const text::Vocabulary& vocabulary, const ChoiceTextOptions& options)
        : index(place), text(vocabulary, options) {}

    int index;  // in choices_, and in the answer
    RequestId id;
    EngineId engine{-1};  // of several, the one that was heard of it; -1: none yet
    bool open = false;    // the engine has it
    bool ended = false;   // nothing more will be said of it
    bool fresh = false;   // a token has come since the last chunk
    bool dirty = false;   // in dirty_
    bool spoken = false;  // a chunk has been sent
    int prompt_tokens = 0;
    int cached_tokens = 0;
    ChoiceText text;
    std::string shown;                           // text not sent yet
    std::vector<sched::TokenLogprobs> logprobs;  // not sent yet
    std::optional<TokenId> unscored;             // not sent yet
    std::size_t text_offset = 0;
    std::string_view finish_reason;
    std::optional<TokenId> stop_token;
    TimePoint first_token;
    TimePoint last_token;
  };

  void prepared(Prepared result);
  void admit(PreparedRequest prepared);
  void make_choices(const PreparedRequest& prepared);
  [[nodiscard]] std::optional<ApiError> submit(PreparedRequest& prepared);
  // What to answer when the engine does not take the request.
  [[nodiscard]] ApiError refused(const Error& why) const;
  void take_token(Choice& choice, TokenId token, bool ends, TimePoint now);
  void take_finish(Choice& choice, cluster::TokenOutput& output);
  // Ends a choice: its engine request is over, or is cancelled here.
  void end(Choice& choice, std::string_view reason, ChoiceEnd how);
  void abandon();  // every choice that has not ended
  void fail(const ApiError& error);
  void mark(Choice& choice);
  [[nodiscard]] bool says(const Choice& choice) const;  // a chunk of it would say something
  void send_when_due(TimePoint now);
  void send_chunks();
  void append_chunks();
  void append_chunk(Choice& choice);
  void send_document();
  [[nodiscard]] ChoicePart part_of(const Choice& choice) const;
  [[nodiscard]] Usage usage() const;

  const Endpoint endpoint_;
  HttpExchange& exchange_;
  ServingContext& context_;
  const std::string extra_headers_;
  const TimePoint arrival_;
  // For the worker's answer, which may come after the end; owners: this, and for moments the loop.
  std::shared_ptr<Generation*> self_;
  std::optional<ResponseWriter> writer_;
  std::vector<std::unique_ptr<Choice>> choices_;  // prompt by prompt, n each
  std::vector<int> dirty_;                        // choices with news since their last chunk
  std::vector<TokenId> stop_token_ids_;
  int n_ = 1;
  int engine_ = -1;
  std::size_t running_ = 0;  // choices that have not ended
  bool stream_ = false;
  bool include_usage_ = false;
  bool echo_ = false;
  bool wants_logprobs_ = false;
  bool streaming_ = false;  // the head has been sent
  bool waking_ = false;     // on_wake() is to come
  bool over_ = false;       // answered
  TimePoint heard_;         // of the latest outputs
  TimePoint written_;       // the latest chunks; with streaming_
  TimePoint wake_;          // with waking_: when
};

}  // namespace gimbal::server
