#include "tensor/buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>

namespace gimbal::tensor {
namespace {

TEST(Buffer, IsZeroedAlignedAndWritable) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{4096}, std::size_t{5} << 20}) {
    for (const PageKind pages : {PageKind::kSmall, PageKind::kHuge}) {
      const Buffer buffer(bytes, pages);
      ASSERT_EQ(buffer.size(), bytes);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0U);
      const auto span = buffer.as<std::uint8_t>();
      EXPECT_TRUE(std::all_of(span.begin(), span.end(), [](auto byte) { return byte == 0; }));
      std::fill(span.begin(), span.end(), std::uint8_t{0xff});
    }
  }
}

TEST(Buffer, MovesWithoutCopying) {
  Buffer first(100);
  std::byte* const data = first.data();
  const Buffer second = std::move(first);
  EXPECT_EQ(second.data(), data);
}

TEST(Buffer, EmptyBufferHasNoMemory) {
  EXPECT_EQ(Buffer(0).data(), nullptr);
}

}  // namespace
}  // namespace gimbal::tensor
