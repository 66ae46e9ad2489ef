#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace gimbal {

// The newest value of a T that one thread publishes and any number of threads read, without a lock:
// the writer never waits, whoever reads; a reader copies again if a publication came in between.
//
// A sequence lock over atomic words: `version_` is odd while the words are being written. Stores of
// words release and loads acquire, so a reader that saw a word of a publication sees its odd
// version too.
template <class T>
requires std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T>
class Published {
 public:
  Published() { publish(T{}); }

  // One thread at a time.
  void publish(const T& value) {
    std::array<std::uint64_t, kWords> words{};
    std::memcpy(words.data(), &value, sizeof(T));
    const std::uint64_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);
    for (std::size_t i = 0; i < kWords; ++i)
      words_[i].store(words[i], std::memory_order_release);
    version_.store(version + 2, std::memory_order_release);
  }

  // Any thread.
  [[nodiscard]] T read() const {
    std::array<std::uint64_t, kWords> words;
    std::uint64_t version = 0;
    do {
      version = version_.load(std::memory_order_acquire);
      for (std::size_t i = 0; i < kWords; ++i)
        words[i] = words_[i].load(std::memory_order_acquire);
    } while (version % 2 != 0 || version_.load(std::memory_order_relaxed) != version);
    T value;
    std::memcpy(static_cast<void*>(&value), words.data(), sizeof(T));
    return value;
  }

 private:
  static constexpr std::size_t kWords = (sizeof(T) + 7) / 8;

  std::atomic<std::uint64_t> version_{0};
  std::array<std::atomic<std::uint64_t>, kWords> words_{};
};

}  // namespace gimbal
