#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gimbal::text {

// Looks for stop strings in one sequence's text as it comes, and holds back what may be the start
// of one. The match is the stop string that is complete first (the longest, where several end at
// the same byte), so it does not depend on how the text was cut. Time per byte: the number of stop
// strings. One thread.
class StopStrings final {
 public:
  // Requires: no stop string is empty. None at all is allowed: everything passes through.
  explicit StopStrings(std::vector<std::string> stops, bool include_stop_in_output = false);

  // Appends the part of the text that may be shown now to `out`. True when a stop string is
  // complete: the text ends before it (behind it, if it is included), and pushing more is an error.
  // Requires: not matched(). `text` is whole UTF-8, as the stop strings are.
  [[nodiscard]] bool push(std::string_view text, std::string& out);
  // The text is over without a match: appends what was held back. Requires: not matched().
  void finish(std::string& out);

  // Which stop string was met, an index into `stops`.
  [[nodiscard]] std::optional<std::size_t> matched() const { return matched_; }
  [[nodiscard]] const std::string& stop(std::size_t index) const { return stops_[index].text; }

 private:
  struct Stop {
    std::string text;
    // Knuth-Morris-Pratt: for each prefix of `text`, the length of its longest proper border.
    std::vector<std::size_t> borders;
    std::size_t seen = 0;  // how much of `text` the stream ends with
  };

  std::vector<Stop> stops_;
  bool include_;
  std::string held_;
  std::optional<std::size_t> matched_;
};

}  // namespace gimbal::text
