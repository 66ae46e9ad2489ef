#include "synthetic/bpe_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

namespace gimbal::synthetic {
namespace {

// The textbook algorithm: counts every pair of every word anew for each merge.
BpeVocabulary naive_bpe(std::span<const WeightedWord> words, std::size_t size) {
  BpeVocabulary out = train_bpe({}, 256);
  std::map<std::string, int> ids;
  for (std::size_t id = 0; id < 256; ++id) {
    ids[out.tokens[id]] = static_cast<int>(id);
  }
  std::vector<std::vector<int>> symbols;
  for (const auto& word : words) {
    symbols.emplace_back();
    for (const char byte : word.bytes) {
      symbols.back().push_back(ids.at(std::string(1, byte)));
    }
  }
  while (out.tokens.size() < size) {
    std::map<std::pair<int, int>, std::int64_t> counts;
    for (std::size_t w = 0; w < words.size(); ++w) {
      for (std::size_t i = 0; i + 1 < symbols[w].size(); ++i) {
        counts[{symbols[w][i], symbols[w][i + 1]}] += words[w].count;
      }
    }
    if (counts.empty()) break;
    auto best = counts.begin();
    for (auto it = counts.begin(); it != counts.end(); ++it) {
      if (it->second > best->second) best = it;
    }
    const auto [left, right] = best->first;
    const std::string text =
        out.tokens[static_cast<std::size_t>(left)] + out.tokens[static_cast<std::size_t>(right)];
    const auto [entry, added] = ids.emplace(text, static_cast<int>(out.tokens.size()));
    if (added) out.tokens.push_back(text);
    out.merges.push_back(best->first);
    for (auto& word : symbols) {
      std::vector<int> merged;
      for (std::size_t i = 0; i < word.size(); ++i) {
        const bool match = i + 1 < word.size() && word[i] == left && word[i + 1] == right;
        merged.push_back(match ? entry->second : word[i]);
        i += match ? 1 : 0;
      }
      word = merged;
    }
  }
  return out;
}

TEST(BpeVocabulary, TrainingEqualsTheNaiveAlgorithm) {
  const auto words = training_words(0);
  const std::vector<WeightedWord> some(words.begin(), words.begin() + 300);
  const BpeVocabulary fast = train_bpe(some, 700);
  const BpeVocabulary naive = naive_bpe(some, 700);
  EXPECT_EQ(fast.tokens, naive.tokens);
  EXPECT_EQ(fast.merges, naive.merges);
}

TEST(BpeVocabulary, RepeatedLettersMergeFromTheLeft) {
  const std::vector<WeightedWord> words = {{"aaaaa", 3}, {"baaab", 2}, {"abcabc", 1}};
  const BpeVocabulary fast = train_bpe(words, 300);
  const BpeVocabulary naive = naive_bpe(words, 300);
  EXPECT_EQ(fast.tokens, naive.tokens);
  EXPECT_EQ(fast.merges, naive.merges);
}

TEST(BpeVocabulary, TokensAreDifferentAndAsManyAsAskedFor) {
  for (const std::size_t size : {256U, 257U, 1000U, 9000U}) {
    const BpeVocabulary vocabulary = train_bpe(training_words(size), size);
    EXPECT_EQ(vocabulary.tokens.size(), size);
    EXPECT_EQ(std::set<std::string>(vocabulary.tokens.begin(), vocabulary.tokens.end()).size(),
              size);
  }
}

TEST(BpeVocabulary, BytesAreWrittenInGpt2sAlphabet) {
  EXPECT_EQ(printable(" the\n"), "ĠtheĊ");
  EXPECT_EQ(printable("é"), "Ã©");
  std::set<std::string> texts;
  for (int byte = 0; byte < 256; ++byte) {
    texts.insert(printable(std::string(1, static_cast<char>(byte))));
  }
  EXPECT_EQ(texts.size(), 256U);
}

TEST(BpeVocabulary, TrainingWordsAreDifferent) {
  const auto words = training_words(20000);
  std::set<std::string> seen;
  for (const auto& word : words) {
    EXPECT_GT(word.count, 0);
    EXPECT_TRUE(seen.insert(word.bytes).second) << word.bytes;
  }
  EXPECT_GE(words.size(), 20000U);
}

}  // namespace
}  // namespace gimbal::synthetic
