#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "text/incremental_detokenizer.h"
#include "text/stop_strings.h"
#include "text/vocabulary.h"

namespace gimbal::server {

struct ChoiceTextOptions {
  std::vector<std::string> stop;
  bool include_stop = false;  // stop strings, and the text of stop tokens, are shown
  bool skip_special_tokens = true;
  int min_tokens = 0;  // stop strings are not looked for before this many tokens
};

// The text of one choice as its tokens come: detokenizer, then stop strings. One thread.
class ChoiceText final {
 public:
  // `vocabulary` must outlive this.
  ChoiceText(const text::Vocabulary& vocabulary, const ChoiceTextOptions& options);

  // Appends what `token` lets be shown to `out`. True when a stop string is complete; nothing may
  // be pushed afterwards.
  [[nodiscard]] bool push(TokenId token, std::string& out);
  // The choice has ended, by its last token or without one. Appends what was held back, which may
  // complete a stop string after all (true).
  [[nodiscard]] bool finish(std::string& out);
  // push() for the end-of-sequence or stop token: it is shown only with include_stop.
  [[nodiscard]] bool push_stop_token(TokenId token, std::string& out);

  [[nodiscard]] int tokens() const { return tokens_; }
  // The stop string that was met; null if none was.
  [[nodiscard]] const std::string* stop() const;

 private:
  text::IncrementalDetokenizer detokenizer_;
  text::StopStrings stops_;
  bool searches_;  // there are stop strings at all
  bool include_stop_;
  int min_tokens_;
  int tokens_ = 0;
  std::string fresh_;
};

}  // namespace gimbal::server
