#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace gimbal::text {

// Turns one sequence of token ids into text as they come. What push and finish append is, taken
// together, what the tokenizer's library decodes from all ids at once, for any ids; each append is
// whole UTF-8. Text is held back only while it is not known: within a character, and within a run
// of byte-fallback tokens, whose last byte may still make the whole run invalid. No locks, no
// Python. One thread.
class IncrementalDetokenizer final {
 public:
  // `vocabulary` must outlive the detokenizer.
  IncrementalDetokenizer(const Vocabulary& vocabulary, bool skip_special_tokens);

  // Appends the text that `id` settles to `out`. Ids outside of the vocabulary add nothing.
  void push(TokenId id, std::string& out);
  // The sequence is over: appends what was held back. The detokenizer then starts anew.
  void finish(std::string& out);

 private:
  struct StepState {
    bool first = true;           // no token has come yet
    std::size_t strip_left = 0;  // leading patterns that may still be cut
  };

  void push_fallback_byte(char byte, std::string& out);
  void end_fallback_run(std::string& out);
  // Runs one token through the plan's steps in order.
  void feed(std::string_view token, std::string& out);
  void feed_from(std::size_t step, std::string_view token, std::string& out);
  void start();

  const Vocabulary* vocabulary_;
  bool skip_special_tokens_;
  Utf8Repair repair_;     // byte level
  std::string repaired_;  // byte level with steps after it: what the repair let out
  std::string run_;       // byte fallback: the bytes of a run that is valid so far
  Utf8Scanner run_scanner_;
  bool run_invalid_ = false;
  std::vector<StepState> states_;  // one for each step in order
};

}  // namespace gimbal::text
