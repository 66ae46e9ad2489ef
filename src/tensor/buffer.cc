#include "tensor/buffer.h"

#include <sys/mman.h>

#include <cstdint>

#include "base/check.h"

namespace gimbal::tensor {
namespace {

constexpr std::size_t kSmallPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

Buffer::Buffer(std::size_t bytes, PageKind pages) : size_(bytes) {
  if (bytes == 0) return;
  const bool huge = pages == PageKind::kHuge && bytes >= kHugePage;
  const std::size_t unit = huge ? kHugePage : kSmallPage;
  // A huge mapping is made one page longer, so that its first aligned address is inside.
  mapped_ = round_up(bytes, unit) + (huge ? kHugePage : 0);
  void* mapping = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  GIMBAL_CHECK(mapping != MAP_FAILED, "out of memory");
  mapping_ = static_cast<std::byte*>(mapping);
  data_ = mapping_;
  if (huge) {
    const auto address = reinterpret_cast<std::uintptr_t>(mapping_);
    data_ += round_up(address, kHugePage) - address;
    (void)madvise(data_, round_up(bytes, kHugePage), MADV_HUGEPAGE);
  }
}

Buffer::~Buffer() {
  if (mapping_ != nullptr) munmap(mapping_, mapped_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapping_(std::exchange(other.mapping_, nullptr)),
      mapped_(std::exchange(other.mapped_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

}  // namespace gimbal::tensor
