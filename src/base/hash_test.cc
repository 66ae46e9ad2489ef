#include "base/hash.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace gimbal {
namespace {

TEST(Hash, DependsOnOrderLengthAndSeed) {
  const std::vector<std::int32_t> ab{1, 2};
  const std::vector<std::int32_t> ba{2, 1};
  const std::vector<std::int32_t> a{1};
  std::set<std::uint64_t> seen{hash_tokens(ab), hash_tokens(ba), hash_tokens(a), hash_tokens({}),
                               hash_tokens(ab, 7)};
  EXPECT_EQ(seen.size(), 5U);
}

TEST(Hash, BytesOfEveryTailLengthDiffer) {
  const std::string text(20, 'x');
  std::set<std::uint64_t> seen;
  for (std::size_t size = 0; size <= text.size(); ++size) {
    seen.insert(hash_bytes(std::string_view(text).substr(0, size)));
  }
  EXPECT_EQ(seen.size(), text.size() + 1);
}

}  // namespace
}  // namespace gimbal
