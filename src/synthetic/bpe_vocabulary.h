#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "synthetic/word_list.h"

namespace gimbal::synthetic {

// A byte-level BPE vocabulary: ids 0-255 are the bytes in the order of GPT-2's alphabet, the
// others are made by merging two earlier ids.
struct BpeVocabulary {
  std::vector<std::string> tokens;          // bytes of each id, all different
  std::vector<std::pair<int, int>> merges;  // in order of priority
};

// Trains on `words` until there are `size` tokens, or nothing is left to merge: always the most
// frequent pair, of equals that with the smaller ids. Requires: size >= 256.
[[nodiscard]] BpeVocabulary train_bpe(std::span<const WeightedWord> words, std::size_t size);

// The text that stands for `bytes` in a tokenizer.json: each byte as a printable character.
[[nodiscard]] std::string printable(std::string_view bytes);

}  // namespace gimbal::synthetic
