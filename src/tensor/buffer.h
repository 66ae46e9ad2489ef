#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace gimbal::tensor {

// What kind of memory pages a buffer asks for.
enum class PageKind { kSmall, kHuge };

// Owned, zeroed memory, aligned to at least 64 bytes (2 MiB when huge). Mapped directly from the
// system, so that untouched pages cost nothing and freeing gives them back. Move-only.
class Buffer {
 public:
  Buffer() = default;
  // kHuge asks for transparent huge pages and is silently kSmall where the system has none.
  // Running out of address space is fatal (GIMBAL_CHECK): sizes are checked by those who call.
  explicit Buffer(std::size_t bytes, PageKind pages = PageKind::kHuge);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }

  // The buffer as an array of T. Requires: T needs no construction.
  template <class T>
  [[nodiscard]] std::span<T> as() const {
    return {reinterpret_cast<T*>(data_), size_ / sizeof(T)};
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::byte* mapping_ = nullptr;
  std::size_t mapped_ = 0;
};

}  // namespace gimbal::tensor
