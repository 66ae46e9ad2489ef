#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gimbal::synthetic {

// A word as a byte-level tokenizer sees it (with its leading space, if any) and how often it is
// counted.
struct WeightedWord {
  std::string bytes;
  std::int64_t count = 0;
};

// At least `minimum` different words, most frequent first: common English words, words of other
// languages and scripts, and pronounceable invented ones. Always the same for one `minimum`.
[[nodiscard]] std::vector<WeightedWord> training_words(std::size_t minimum);

}  // namespace gimbal::synthetic
