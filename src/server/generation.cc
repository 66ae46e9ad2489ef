#include "server/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace gimbal::server {
namespace {

Refusal refusal_of(const ApiError& error) {
  if (error.status == 429) return Refusal::kOverload;
  if (error.status == 503) return Refusal::kUnavailable;
  return error.status >= 500 ? Refusal::kFailed : Refusal::kInvalid;
}

std::string answer_id(Endpoint endpoint, std::uint64_t seed, std::uint64_t number) {
  return fmt::format("{}-{:016x}{:08x}", endpoint == Endpoint::kChat ? "chatcmpl" : "cmpl",
                     hash_combine(seed, number), number & 0xffffffffU);
}

}  // namespace

Generation::Generation(Endpoint endpoint, HttpExchange& exchange, ServingContext& context,
                       std::string extra_headers)
    : endpoint_(endpoint),
      exchange_(exchange),
      context_(context),
      extra_headers_(std::move(extra_headers)),
      arrival_(context.clock.now()),
      self_(std::make_shared<Generation*>(this)) {
  context_.activity.begin();
}

Generation::~Generation() {
  abandon();
  context_.activity.end();
}

void Generation::start(std::string body, int engine) {
  engine_ = engine;
  if (body.size() <= context_.options.inline_tokenize_bytes) {
    prepared(prepare_request(endpoint_, body, context_));
    return;
  }
  const std::size_t bytes = body.size();
  auto work = [weak = std::weak_ptr(self_), body = std::move(body), endpoint = endpoint_,
               loop = exchange_.loop(), &context = context_] {
    if (weak.expired()) return;  // the client has gone
    auto result = std::make_shared<Prepared>(prepare_request(endpoint, body, context));
    context.post(loop, [weak, result] {
      if (const auto self = weak.lock()) (*self)->prepared(std::move(*result));
    });
  };
  if (!context_.worker.submit(bytes, std::move(work))) {
    fail({.status = 429,
          .message = "too many prompts wait to be read",
          .type = "rate_limit_error",
          .code = "rate_limit_exceeded",
          .retry_after_seconds = 1});
  }
}

void Generation::prepared(Prepared result) {
  if (const auto* error = std::get_if<ApiError>(&result)) {
    fail(*error);
  } else {
    admit(std::get<PreparedRequest>(std::move(result)));
  }
}

void Generation::admit(PreparedRequest prepared) {
  const GenerationRequest& request = prepared.request;
  context_.metrics.unknown_fields(static_cast<std::int64_t>(request.unknown_fields.size()));
  const auto count = static_cast<int>(prepared.prompts.size()) * request.n;
  if (context_.choices.fetch_add(count) + count > context_.options.max_running_choices) {
    context_.choices.fetch_sub(count);
    return fail({.status = 429,
                 .message = fmt::format("too many choices are being generated, at most {} may be",
                                        context_.options.max_running_choices),
                 .type = "rate_limit_error",
                 .code = "rate_limit_exceeded",
                 .retry_after_seconds = context_.retry_after_seconds()});
  }
  n_ = request.n;
  stream_ = request.stream;
  include_usage_ = request.include_usage;
  echo_ = request.echo;
  wants_logprobs_ = request.sampling.logprobs >= 0;
  stop_token_ids_ = request.sampling.stop_token_ids;
  make_choices(prepared);
  if (const auto error = submit(prepared)) {
    fail(*error);
  } else if (running_ == 0) {  // max_tokens is 0: there is only an echo
    on_delivered();
  }
}

void Generation::make_choices(const PreparedRequest& prepared) {
  const GenerationRequest& request = prepared.request;
  const ChoiceTextOptions options{.stop = request.stop,
                                  .include_stop = request.include_stop_in_output,
                                  .skip_special_tokens = request.skip_special_tokens,
                                  .min_tokens = request.sampling.min_tokens};
  for (const PreparedPrompt& prompt : prepared.prompts) {
    for (int i = 0; i < n_; ++i) {
      Choice& choice = *choices_.emplace_back(std::make_unique<Choice>(
          static_cast<int>(choices_.size()), context_.codec.vocabulary(), options));
      choice.prompt_tokens = static_cast<int>(prompt.tokens.size());
      choice.shown = prompt.text;
      if (request.sampling.prompt_logprobs) choice.unscored = prompt.tokens.front();
    }
  }
  running_ = choices_.size();
}

std::optional<ApiError> Generation::submit(PreparedRequest& prepared) {
  GenerationRequest& request = prepared.request;
  const std::uint64_t number = context_.requests.fetch_add(1);
  const std::string id = answer_id(endpoint_, context_.options.seed, number);
  writer_.emplace(ResponseWriter::Identity{.endpoint = endpoint_,
                                           .id = id,
                                           .model = request.model.empty() ? context_.model_name()
                                                                          : request.model,
                                           .created = wall_seconds(),
                                           .stream = stream_,
                                           .usage_follows = stream_ && include_usage_,
                                           .tokens_as_ids = request.tokens_as_ids},
                  context_.codec.vocabulary());
  request.sampling.seed = request.seed.value_or(hash_combine(context_.options.seed, number));
  std::vector<sched::Request> group;
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = *choices_[i];
    const auto place = static_cast<std::size_t>(n_);
    PreparedPrompt& prompt = prepared.prompts[i / place];
    if (prompt.max_tokens == 0 && !request.sampling.prompt_logprobs) {
      end(choice, "length", ChoiceEnd::kLength);
      mark(choice);
      continue;
    }
    const bool last_use = i % place + 1 == place;
    sched::Request work{
        .prompt = last_use ? std::move(prompt.tokens) : prompt.tokens,
        .max_tokens = prompt.max_tokens,
        .sampling = request.sampling,
        .request_class = request.request_class.value_or(context_.options.default_class),
        .priority = request.priority,
        .cache_salt = request.cache_salt,
        .user_key = request.user_key,
        .pinned_engine = engine_};
    work.id = choice.id = context_.router.open(exchange_.loop(), *this, static_cast<int>(i));
    work.sampling.choice = static_cast<std::uint32_t>(i % place);
    group.push_back(std::move(work));
  }
  if (group.empty()) return std::nullopt;
  if (context_.insight.inspector != nullptr || context_.insight.orders != nullptr) {
    std::vector<RequestId> requests;
    for (const sched::Request& work : group)
      requests.push_back(work.id);
    context_.answers.add(id, std::move(requests));
  }
  const auto submitted = context_.engine.submit(std::move(group));
  for (const auto& choice : choices_) {
    if (choice->ended) continue;
    choice->open = submitted.ok();
    if (!choice->open) context_.router.close(choice->id);
  }
  if (submitted.ok()) return std::nullopt;
  return refused(submitted.error());
}

ApiError Generation::refused(const Error& why) const {
  ApiError error = to_api_error(why);
  if (error.status == 429) error.retry_after_seconds = context_.retry_after_seconds();
  return error;
}

void Generation::on_output(int index, cluster::TokenOutput& output, TimePoint now) {
  Choice& choice = *choices_[static_cast<std::size_t>(index)];
  if (over_ || choice.ended) return;
  heard_ = now;
  if (output.engine.value() >= 0) choice.engine = output.engine;
  choice.cached_tokens = std::max(choice.cached_tokens, output.cached_tokens);
  std::move(output.prompt_logprobs.begin(), output.prompt_logprobs.end(),
            std::back_inserter(choice.logprobs));
  if (output.token) {
    if (wants_logprobs_ && output.logprobs) choice.logprobs.push_back(std::move(*output.logprobs));
    take_token(choice, *output.token, output.finish == sched::FinishReason::kStop, now);
  }
  if (output.finish && !choice.ended) take_finish(choice, output);
  mark(choice);
}

void Generation::take_token(Choice& choice, TokenId token, bool ends, TimePoint now) {
  if (choice.text.tokens() == 0) {
    choice.first_token = now;
    context_.metrics.first_token(choice.engine, now - arrival_);
  } else {
    context_.metrics.next_token(choice.engine, now - choice.last_token);
  }
  choice.last_token = now;
  choice.fresh = true;
  if (ends &&
      std::find(stop_token_ids_.begin(), stop_token_ids_.end(), token) != stop_token_ids_.end()) {
    choice.stop_token = token;
  }
  const bool stopped = ends ? choice.text.push_stop_token(token, choice.shown)
                            : choice.text.push(token, choice.shown);
  if (stopped) end(choice, "stop", ChoiceEnd::kStop);
}

void Generation::take_finish(Choice& choice, cluster::TokenOutput& output) {
  choice.open = false;  // in the engine it is over
  context_.router.close(choice.id);
  switch (*output.finish) {
    case sched::FinishReason::kStop:
      static_cast<void>(choice.text.finish(choice.shown));
      return end(choice, "stop", ChoiceEnd::kStop);
    case sched::FinishReason::kLength:
      if (choice.text.finish(choice.shown)) return end(choice, "stop", ChoiceEnd::kStop);
      return end(choice, "length", ChoiceEnd::kLength);
    case sched::FinishReason::kCancelled:
      return fail({.status = 503,
                   .message = "the request was ended by the server",
                   .type = "server_error",
                   .code = "unavailable"});
    case sched::FinishReason::kFailed:
      if (output.refused) return fail(refused({*output.refused, output.error}));
      return fail({.status = 500,
                   .message = "the request failed in the engine: " + output.error,
                   .type = "server_error",
                   .code = "internal_error"});
  }
}

void Generation::end(Choice& choice, std::string_view reason, ChoiceEnd how) {
  if (choice.ended) return;
  choice.ended = true;
  choice.finish_reason = reason;
  --running_;
  context_.choices.fetch_sub(1);
  if (choice.open) {
    choice.open = false;
    context_.router.close(choice.id);
    context_.engine.cancel(choice.id);
  }
  context_.metrics.ended({.engine = choice.engine,
                          .end = how,
                          .latency = context_.clock.now() - arrival_,
                          .decode = choice.last_token - choice.first_token,
                          .prompt_tokens = choice.prompt_tokens,
                          .generated_tokens = choice.text.tokens()});
}

void Generation::abandon() {
  for (const auto& choice : choices_)
    end(*choice, {}, ChoiceEnd::kAbort);
}

void Generation::fail(const ApiError& error) {
  if (over_) return;
  over_ = true;
  if (streaming_) append_chunks();  // what was generated before
  for (const auto& choice : choices_)
    end(*choice, {}, ChoiceEnd::kError);
  context_.metrics.refused(refusal_of(error));
  if (streaming_) {
    append_event(exchange_.stream_buffer(), to_json(error));
    exchange_.stream_buffer() += kStreamEnd;
    exchange_.end_stream();
    return;
  }
  HttpResponse response = to_response(error);
  response.extra_headers += extra_headers_;
  exchange_.respond(std::move(response));
}

void Generation::mark(Choice& choice) {
  if (std::exchange(choice.dirty, true)) return;
  dirty_.push_back(choice.index);
}

void Generation::on_delivered() {
  if (over_) return;
  if (stream_) {
    send_when_due(heard_);
  } else if (running_ == 0) {
    send_document();
  }
}

// By the time that was asked for: streams that are written together stay together, and so wake the
// loop once and not one by one.
void Generation::on_wake() {
  waking_ = false;
  if (!over_) send_when_due(wake_);
}

ChoicePart Generation::part_of(const Choice& choice) const {
  ChoicePart part{.index = choice.index,
                  .text = choice.shown,
                  .first = !choice.spoken,
                  .unscored = choice.unscored,
                  .text_offset = choice.text_offset,
                  .finish_reason = choice.finish_reason,
                  .stop_string = choice.text.stop(),
                  .stop_token = choice.stop_token};
  if (wants_logprobs_) part.logprobs = choice.logprobs;
  return part;
}

bool Generation::says(const Choice& choice) const {
  return choice.ended || (choice.fresh && (!choice.shown.empty() || wants_logprobs_ ||
                                           (endpoint_ == Endpoint::kChat && !choice.spoken)));
}

void Generation::send_when_due(TimePoint now) {
  bool news = false;
  bool urgent = false;  // a choice begins or ends
  for (const int index : dirty_) {
    const Choice& choice = *choices_[static_cast<std::size_t>(index)];
    if (!says(choice)) continue;
    news = true;
    urgent = urgent || choice.ended || !choice.spoken;
  }
  if (!news) return;
  const Duration interval = context_.options.stream_interval;
  if (urgent || now - written_ >= interval) {
    written_ = now;
    send_chunks();
  } else if (!std::exchange(waking_, true)) {
    wake_ = written_ + interval;
    exchange_.wake_at(wake_);
  }
}

void Generation::send_chunks() {
  append_chunks();
  if (running_ > 0) return exchange_.flush();
  over_ = true;
  std::string& out = exchange_.stream_buffer();
  if (include_usage_) writer_->append_usage_chunk(out, usage());
  out += kStreamEnd;
  exchange_.end_stream();
}

void Generation::append_chunks() {
  for (const int index : dirty_) {
    Choice& choice = *choices_[static_cast<std::size_t>(index)];
    choice.dirty = false;
    if (says(choice)) append_chunk(choice);
  }
  dirty_.clear();
}

void Generation::append_chunk(Choice& choice) {
  if (!std::exchange(streaming_, true)) exchange_.start_stream(extra_headers_);
  const ChoicePart part = part_of(choice);
  std::string& out = exchange_.stream_buffer();
  const std::size_t before = out.size();
  writer_->append_chunk(out, part);
  if (echo_ && part.first) exchange_.allow_backlog(out.size() - before);
  if (wants_logprobs_) {
    choice.text_offset += writer_->token_characters(part);
    choice.logprobs.clear();
    choice.unscored.reset();
  }
  choice.shown.clear();
  choice.fresh = false;
  choice.spoken = true;
}

void Generation::send_document() {
  over_ = true;
  std::vector<ChoicePart> parts;
  parts.reserve(choices_.size());
  for (const auto& choice : choices_)
    parts.push_back(part_of(*choice));
  exchange_.respond(
      {.status = 200, .body = writer_->document(parts, usage()), .extra_headers = extra_headers_});
}

Usage Generation::usage() const {
  Usage usage;
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    usage.completion_tokens += choices_[i]->text.tokens();
    if (i % static_cast<std::size_t>(n_) != 0) continue;  // a prompt counts once
    usage.prompt_tokens += choices_[i]->prompt_tokens;
    usage.cached_tokens += choices_[i]->cached_tokens;
  }
  return usage;
}

}  // namespace gimbal::server
