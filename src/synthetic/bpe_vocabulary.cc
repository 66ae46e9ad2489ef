#include "synthetic/bpe_vocabulary.h"

#include <algorithm>
#include <array>
#include <queue>
#include <unordered_map>

#include "base/check.h"

namespace gimbal::synthetic {
namespace {

// GPT-2's alphabet: bytes that print stand for themselves, the others for code points from 256 on.
struct Alphabet {
  std::array<int, 256> code_points{};      // of each byte
  std::array<int, 256> ids{};              // of each byte: ordered by code point
  std::array<unsigned char, 256> bytes{};  // of each id
};

Alphabet make_alphabet() {
  Alphabet alphabet;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    alphabet.code_points[static_cast<std::size_t>(byte)] = prints ? byte : next++;
  }
  std::array<int, 256> order{};
  for (int i = 0; i < 256; ++i) {
    order[static_cast<std::size_t>(i)] = i;
  }
  std::sort(order.begin(), order.end(), [&alphabet](int a, int b) {
    return alphabet.code_points[static_cast<std::size_t>(a)] <
           alphabet.code_points[static_cast<std::size_t>(b)];
  });
  for (int id = 0; id < 256; ++id) {
    const int byte = order[static_cast<std::size_t>(id)];
    alphabet.ids[static_cast<std::size_t>(byte)] = id;
    alphabet.bytes[static_cast<std::size_t>(id)] = static_cast<unsigned char>(byte);
  }
  return alphabet;
}

const Alphabet& alphabet() {
  static const Alphabet table = make_alphabet();
  return table;
}

using Pair = std::uint64_t;

Pair pair_of(int left, int right) {
  return static_cast<Pair>(left) << 32 | static_cast<std::uint32_t>(right);
}

class BpeTrainer {
 public:
  BpeTrainer(std::span<const WeightedWord> words, std::size_t size) : size_(size) {
    for (int id = 0; id < 256; ++id) {
      const std::string token(1, static_cast<char>(alphabet().bytes[static_cast<std::size_t>(id)]));
      ids_.emplace(token, id);
      vocabulary_.tokens.push_back(token);
    }
    for (const auto& word : words) {
      std::vector<int> symbols;
      for (const char byte : word.bytes) {
        symbols.push_back(alphabet().ids[static_cast<unsigned char>(byte)]);
      }
      counts_.push_back(word.count);
      words_.push_back(std::move(symbols));
      count_pairs(words_.size() - 1, +1, -1);
    }
    push_changed();
  }

  BpeVocabulary train() {
    while (vocabulary_.tokens.size() < size_ && !queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      const auto found = pairs_.find(best.pair);
      if (found == pairs_.end() || found->second.count != best.count) continue;  // out of date
      merge(best.pair, std::move(found->second.words));
    }
    return std::move(vocabulary_);
  }

 private:
  struct Candidate {
    std::int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  struct Occurrences {
    std::int64_t count = 0;
    std::vector<std::size_t> words;  // may name a word twice, or one that no longer has the pair
  };

  // `made`: the pairs with this symbol are new to the word; negative: all of them are.
  void count_pairs(std::size_t word, int sign, int made) {
    const auto& symbols = words_[word];
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const Pair pair = pair_of(symbols[i], symbols[i + 1]);
      Occurrences& occurrences = pairs_[pair];
      occurrences.count += sign * counts_[word];
      if (sign > 0 && (made < 0 || symbols[i] == made || symbols[i + 1] == made)) {
        occurrences.words.push_back(word);
      }
      changed_.push_back(pair);
    }
  }

  static bool has_pair(const std::vector<int>& symbols, int left, int right) {
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      if (symbols[i] == left && symbols[i + 1] == right) return true;
    }
    return false;
  }

  void push_changed() {
    std::sort(changed_.begin(), changed_.end());
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (const Pair pair : changed_) {
      const auto found = pairs_.find(pair);
      if (found->second.count > 0) {
        queue_.push({found->second.count, pair});
      } else {
        pairs_.erase(found);
      }
    }
    changed_.clear();
  }

  void merge(Pair pair, std::vector<std::size_t> words) {
    const int left = static_cast<int>(pair >> 32);
    const int right = static_cast<int>(pair & 0xffffffffU);
    const int merged = id_of(vocabulary_.tokens[static_cast<std::size_t>(left)] +
                             vocabulary_.tokens[static_cast<std::size_t>(right)]);
    vocabulary_.merges.emplace_back(left, right);
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    for (const std::size_t word : words) {
      auto& symbols = words_[word];
      if (!has_pair(symbols, left, right)) continue;
      count_pairs(word, -1, merged);
      std::size_t to = 0;
      for (std::size_t from = 0; from < symbols.size(); ++to) {
        const bool match =
            from + 1 < symbols.size() && symbols[from] == left && symbols[from + 1] == right;
        symbols[to] = match ? merged : symbols[from];
        from += match ? 2 : 1;
      }
      symbols.resize(to);
      count_pairs(word, +1, merged);
    }
    push_changed();
  }

  // Two pairs can spell one token ("a" + "bc", "ab" + "c"): it has one id.
  int id_of(const std::string& token) {
    const auto [found, added] = ids_.emplace(token, static_cast<int>(vocabulary_.tokens.size()));
    if (added) vocabulary_.tokens.push_back(token);
    return found->second;
  }

  std::size_t size_;
  BpeVocabulary vocabulary_;
  std::unordered_map<std::string, int> ids_;
  std::vector<std::vector<int>> words_;
  std::vector<std::int64_t> counts_;
  std::unordered_map<Pair, Occurrences> pairs_;
  std::vector<Pair> changed_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace

BpeVocabulary train_bpe(std::span<const WeightedWord> words, std::size_t size) {
  GIMBAL_CHECK(size >= 256);
  return BpeTrainer(words, size).train();
}

std::string printable(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    const int point = alphabet().code_points[static_cast<unsigned char>(byte)];
    if (point < 0x80) {
      text += static_cast<char>(point);
    } else {
      text += static_cast<char>(0xc0 | (point >> 6));
      text += static_cast<char>(0x80 | (point & 0x3f));
    }
  }
  return text;
}

}  // namespace gimbal::synthetic
