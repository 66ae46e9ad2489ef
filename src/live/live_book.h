#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "cluster/engine.h"
#include "sched/request.h"
#include "sim/serving_cluster.h"

namespace gimbal::live {

// What a simulated model says: sentence after sentence, from the first again after the last.
struct AnswerText {
  std::vector<std::vector<TokenId>> sentences;  // at least one; none empty
  TokenId end_token = 0;                        // what comes where an answer ends by itself
  // Mean length, in tokens, of answers to requests that leave it open; >= 1.
  int mean_tokens = 200;
};

// The requests of a cluster that serves clients, from submission to their end, and what is to be
// told of them.
//
// A request's answer begins with a sentence that its seed and choice draw. It has max_tokens
// tokens; but where prompt and max_tokens fill the whole context the length was left open, and it
// ends by itself, after a sentence: at about (0.5 to 1.5)·mean_tokens, drawn too. With ignore_eos
// it does not. A stop token ends it where the text has one. One thread.
class LiveBook final : public sim::RequestBook {
 public:
  explicit LiveBook(AnswerText text);

  // `max_model_len`: of the engines. Requires: the id is not known.
  void add(sched::Request request, TimePoint arrival, std::int64_t max_model_len);
  // Ends all that are left.
  void cancel_all();
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  // What was said since the last call, in order.
  [[nodiscard]] std::vector<cluster::TokenOutput> take_outputs() {
    return std::exchange(outputs_, {});
  }
  [[nodiscard]] std::size_t outputs() const { return outputs_.size(); }

  [[nodiscard]] int topic_of(RequestId /*request*/) const override { return 0; }
  [[nodiscard]] sim::SaidToken token_at(RequestId request, std::int64_t position,
                                        int vocab_size) const override;
  void on_sent(RequestId request, EngineId engine) override;
  bool on_news(sched::TokenNews& news) override;
  void on_end(RequestId request, sim::RequestEnd how, const Error& why) override;
  [[nodiscard]] sched::Request request(RequestId request) const override;
  [[nodiscard]] TimePoint arrival(RequestId request) const override;
  [[nodiscard]] bool told(RequestId request) const override;
  [[nodiscard]] std::vector<RequestId> requests_at(EngineId engine) const override;

 private:
  struct Entry {
    sched::Request request;  // its prompt goes once something is told
    TimePoint arrival{};
    EngineId engine{-1};
    std::int64_t prompt_tokens = 0;
    std::size_t first = 0;    // token of the text
    std::int64_t length = 0;  // tokens before its own end; 0: it has none
    bool told = false;
  };

  [[nodiscard]] Entry& at(RequestId request);
  [[nodiscard]] const Entry& at(RequestId request) const;
  [[nodiscard]] std::int64_t draw_length(std::size_t sentence, std::uint64_t random,
                                         int least) const;

  std::vector<TokenId> tokens_;      // of the whole text
  std::vector<std::size_t> starts_;  // of its sentences
  TokenId end_token_;
  int mean_tokens_;
  std::unordered_map<RequestId, Entry> entries_;
  std::vector<cluster::TokenOutput> outputs_;
};

}  // namespace gimbal::live
