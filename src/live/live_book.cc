#include "live/live_book.h"

#include <algorithm>

#include "base/check.h"
#include "base/hash.h"

namespace gimbal::live {

using sched::FinishReason;

LiveBook::LiveBook(AnswerText text) : end_token_(text.end_token), mean_tokens_(text.mean_tokens) {
  for (const std::vector<TokenId>& sentence : text.sentences) {
    GIMBAL_CHECK(!sentence.empty());
    starts_.push_back(tokens_.size());
    tokens_.insert(tokens_.end(), sentence.begin(), sentence.end());
  }
  GIMBAL_CHECK(!tokens_.empty() && mean_tokens_ >= 1);
}

void LiveBook::add(sched::Request request, TimePoint arrival, std::int64_t max_model_len) {
  const std::uint64_t random = hash_combine(request.sampling.seed, request.sampling.choice);
  const std::size_t sentence = random % starts_.size();
  Entry entry{.request = std::move(request), .arrival = arrival, .first = starts_[sentence]};
  entry.prompt_tokens = static_cast<std::int64_t>(entry.request.prompt.size());
  const bool open = entry.prompt_tokens + entry.request.max_tokens >= max_model_len;
  if (open && !entry.request.sampling.ignore_eos) {
    const int least = std::min(entry.request.sampling.min_tokens, entry.request.max_tokens);
    entry.length = draw_length(sentence, hash_combine(random, 1), least);
  }
  const RequestId id = entry.request.id;
  GIMBAL_CHECK(entries_.emplace(id, std::move(entry)).second, "a request's id is used again");
}

// To the end of the sentence in which the drawn number of tokens is reached.
std::int64_t LiveBook::draw_length(std::size_t sentence, std::uint64_t random, int least) const {
  const std::uint64_t drawn = static_cast<std::uint64_t>(mean_tokens_) / 2 +
                              random % (static_cast<std::uint64_t>(mean_tokens_) + 1);
  const std::int64_t wanted = std::max<std::int64_t>({static_cast<std::int64_t>(drawn), least, 1});
  std::int64_t length = 0;
  while (length < wanted) {
    const std::size_t end = sentence + 1 < starts_.size() ? starts_[sentence + 1] : tokens_.size();
    length += static_cast<std::int64_t>(end - starts_[sentence]);
    sentence = (sentence + 1) % starts_.size();
  }
  return length;
}

LiveBook::Entry& LiveBook::at(RequestId request) {
  const auto found = entries_.find(request);
  GIMBAL_CHECK(found != entries_.end(), "no such request");
  return found->second;
}

const LiveBook::Entry& LiveBook::at(RequestId request) const {
  const auto found = entries_.find(request);
  GIMBAL_CHECK(found != entries_.end(), "no such request");
  return found->second;
}

sim::SaidToken LiveBook::token_at(RequestId request, std::int64_t position,
                                  int /*vocab_size*/) const {
  const Entry& entry = at(request);
  const std::int64_t index = position - entry.prompt_tokens;
  if (entry.length > 0 && index >= entry.length) return {.token = end_token_, .ends = true};
  const TokenId token = tokens_[(entry.first + static_cast<std::size_t>(index)) % tokens_.size()];
  const std::vector<TokenId>& stops = entry.request.sampling.stop_token_ids;
  const bool ends = index >= entry.request.sampling.min_tokens &&
                    std::find(stops.begin(), stops.end(), token) != stops.end();
  return {.token = token, .ends = ends};
}

void LiveBook::on_sent(RequestId request, EngineId engine) {
  at(request).engine = engine;
}

bool LiveBook::on_news(sched::TokenNews& news) {
  Entry& entry = at(news.request);
  const bool first = !std::exchange(entry.told, true);
  if (first) std::vector<TokenId>().swap(entry.request.prompt);
  outputs_.push_back({.request = news.request,
                      .engine = entry.engine,
                      .token = news.token,
                      .finish = news.finish,
                      .error = std::move(news.error),
                      .cached_tokens = news.cached_tokens});
  if (news.finish) entries_.erase(news.request);
  return first;
}

void LiveBook::on_end(RequestId request, sim::RequestEnd how, const Error& why) {
  const bool was_told = at(request).told;
  cluster::TokenOutput& output = outputs_.emplace_back();
  output.request = request;
  output.engine = at(request).engine;
  if (how == sim::RequestEnd::kCancelled) {
    output.finish = FinishReason::kCancelled;
  } else {
    output.finish = FinishReason::kFailed;
    output.error = why.message;
    if (!was_told) output.refused = why.code;
  }
  entries_.erase(request);
}

void LiveBook::cancel_all() {
  for (const auto& [id, entry] : entries_)
    outputs_.push_back({.request = id, .finish = FinishReason::kCancelled});
  entries_.clear();
}

sched::Request LiveBook::request(RequestId request) const {
  return at(request).request;
}

TimePoint LiveBook::arrival(RequestId request) const {
  return at(request).arrival;
}

bool LiveBook::told(RequestId request) const {
  return at(request).told;
}

std::vector<RequestId> LiveBook::requests_at(EngineId engine) const {
  std::vector<RequestId> found;
  for (const auto& [id, entry] : entries_) {
    if (entry.engine == engine) found.push_back(id);
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace gimbal::live
