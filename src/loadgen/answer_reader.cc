#include "loadgen/answer_reader.h"

#include <fmt/format.h>

#include "loadgen/completion_chunk.h"

namespace gimbal::loadgen {
namespace {

constexpr std::size_t kMaxErrorBody = 16 * 1024;  // of an answer that is no stream

}  // namespace

AnswerReader::AnswerReader(report::RequestRecord record, bool keep_text)
    : record_(std::move(record)), keep_text_(keep_text) {}

bool AnswerReader::put(Duration now, std::string_view bytes) {
  if (done_) return true;
  started_ = started_ || !bytes.empty();
  const auto taken = http_.put(bytes, body_);
  if (!taken.ok()) {
    fail(taken.error().message);
    return true;
  }
  if (http_.head_done() && http_.status() == 200) {
    const auto put = events_.put(body_, [&](std::string_view data) { handle_event(now, data); });
    body_.clear();
    if (!put.ok()) fail(put.error().message);
  } else if (body_.size() > kMaxErrorBody) {
    fail(fmt::format("HTTP {}: {}", http_.status(), error_message(body_)));
  }
  if (!done_ && http_.done()) {
    reusable_ = http_.keep_alive() && *taken == bytes.size();
    finish();
  }
  return done_;
}

void AnswerReader::end(std::string_view reason) {
  if (done_) return;
  if (http_.end().ok()) {
    finish();
  } else {
    fail(std::string(reason));
  }
}

void AnswerReader::handle_event(Duration now, std::string_view data) {
  if (done_) return;
  if (data == "[DONE]") {
    saw_done_ = true;
  } else if (!data.empty()) {
    handle_chunk(now, data);
  }
}

void AnswerReader::handle_chunk(Duration now, std::string_view data) {
  const auto chunk = parse_completion_chunk(data);
  if (!chunk.ok()) return fail(chunk.error().message);
  if (!chunk->error.empty()) return fail(chunk->error);
  if (chunk->usage) {
    has_usage_ = true;
    record_.prompt_tokens = chunk->usage->prompt_tokens;
    record_.output_tokens = chunk->usage->completion_tokens;
    record_.tells_cached = chunk->usage->cached_tokens.has_value();
    record_.cached_tokens = chunk->usage->cached_tokens.value_or(0);
  }
  if (!chunk->has_choice) return;
  if (chunks_ == 0) {
    record_.ttft = now - record_.sent;
  } else {
    record_.gaps.push_back(now - last_chunk_);
  }
  if (record_.ttft_content == Duration{} && !chunk->text.empty()) {
    record_.ttft_content = now - record_.sent;
  }
  if (keep_text_) record_.text += chunk->text;
  last_chunk_ = now;
  record_.e2e = now - record_.sent;
  ++chunks_;
}

void AnswerReader::fail(std::string reason) {
  record_.error = reason.empty() ? "no answer" : std::move(reason);
  reusable_ = false;
  done_ = true;
}

void AnswerReader::finish() {
  done_ = true;
  if (http_.status() != 200) {
    record_.error = fmt::format("HTTP {}: {}", http_.status(), error_message(body_));
  } else if (chunks_ == 0) {
    record_.error = "the answer has no chunk with a choice";
  } else if (!saw_done_) {
    record_.error = "the stream ended without [DONE]";
  } else if (!has_usage_) {
    record_.output_tokens = chunks_;
    record_.without_usage = true;
  }
}

}  // namespace gimbal::loadgen
