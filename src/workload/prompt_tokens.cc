#include "workload/prompt_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/check.h"
#include "base/hash.h"

namespace gimbal::workload {
namespace {

struct Range {
  TokenId first = 0;
  TokenId end = 0;
};

Range range_of(int topic, const TokenSpace& space) {
  if (topic == kAnyTopic || space.topics <= 1) return {space.first, space.vocab_size};
  const std::int64_t index = topic % space.topics;
  const auto edge = [&](std::int64_t t) {
    return static_cast<TokenId>((t * space.vocab_size + space.topics - 1) / space.topics);
  };
  return {std::max(edge(index), space.first), edge(index + 1)};
}

// Token `index` of the endless sequence that `identity` names.
TokenId token_at(std::uint64_t identity, std::int64_t index, const Range& range) {
  __extension__ using Wide = unsigned __int128;
  const auto width = static_cast<std::uint64_t>(range.end - range.first);
  const std::uint64_t word = hash_combine(identity, static_cast<std::uint64_t>(index));
  return range.first + static_cast<TokenId>(static_cast<Wide>(word) * width >> 64);
}

// Words that common tokenizers know as one token each.
constexpr std::array<std::string_view, 64> kWords{
    "time",     "year",  "people", "way",     "day",    "man",      "thing",  "woman",
    "life",     "child", "world",  "school",  "state",  "family",   "group",  "country",
    "hand",     "part",  "place",  "case",    "week",   "company",  "system", "program",
    "question", "work",  "number", "night",   "point",  "home",     "water",  "room",
    "mother",   "area",  "money",  "story",   "fact",   "month",    "lot",    "right",
    "study",    "book",  "eye",    "job",     "word",   "business", "issue",  "side",
    "kind",     "head",  "house",  "service", "friend", "father",   "power",  "hour",
    "game",     "line",  "end",    "member",  "law",    "car",      "city",   "name"};

}  // namespace

Result<void> validate(const TokenSpace& space) {
  if (space.vocab_size < 1) {
    return invalid_argument(
        fmt::format("a vocabulary has at least one token, not {}", space.vocab_size), "vocab_size");
  }
  if (space.first < 0 || space.first >= space.vocab_size) {
    return invalid_argument(fmt::format("the first token to use must be from 0 to {}, is {}",
                                        space.vocab_size - 1, space.first),
                            "first");
  }
  if (space.topics < 1) {
    return invalid_argument(fmt::format("there is at least one topic, not {}", space.topics),
                            "topics");
  }
  for (int topic = 0; topic < space.topics; ++topic) {
    const Range range = range_of(topic, space);
    if (range.first < range.end) continue;
    return invalid_argument(fmt::format("topic {} of {} has no tokens from {} up in a vocabulary "
                                        "of {}",
                                        topic, space.topics, space.first, space.vocab_size),
                            "topics");
  }
  return {};
}

std::vector<TokenId> prompt_tokens(const RequestSpec& request, const TokenSpace& space) {
  GIMBAL_DCHECK(validate(space).ok());
  std::vector<TokenId> tokens;
  tokens.reserve(static_cast<std::size_t>(request.prompt_tokens()));
  for (const PromptPart& part : request.prompt) {
    const Range range = range_of(part.topic, space);
    for (std::int64_t i = 0; i < part.tokens; ++i) {
      tokens.push_back(token_at(part.identity, i, range));
    }
  }
  return tokens;
}

std::string prompt_text(const RequestSpec& request, const TokenSpace& space) {
  if (!request.text.empty()) return request.text;
  std::string text;
  for (const TokenId token : prompt_tokens(request, space)) {
    if (!text.empty()) text += ' ';
    text += kWords[mix64(static_cast<std::uint64_t>(token)) % kWords.size()];
  }
  return text;
}

}  // namespace gimbal::workload
