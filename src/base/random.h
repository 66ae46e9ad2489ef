#pragma once

#include <array>
#include <cstdint>

namespace gimbal {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter
// based generator. The same key and counter give the same words on every processor and schedule.
[[nodiscard]] std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                      std::array<std::uint32_t, 2> key);

// A uniform number in [0, 1) with 24 random bits, for one (key, counter).
[[nodiscard]] float philox_uniform(std::uint64_t key, std::uint64_t counter_high,
                                   std::uint64_t counter_low);

// A small sequential generator (SplitMix64) for tests, generators and tie-breaking. Value type,
// satisfies UniformRandomBitGenerator; one thread.
class Rng {
 public:
  using result_type = std::uint64_t;

  explicit Rng(std::uint64_t seed) : state_(seed) {}

  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return ~result_type{0}; }
  result_type operator()();

  // Uniform in [0, bound). Requires: bound > 0.
  std::uint64_t below(std::uint64_t bound);
  // Uniform in [low, high]. Requires: low <= high.
  std::int64_t between(std::int64_t low, std::int64_t high);
  // Uniform in [0, 1) with 53 random bits.
  double uniform();

 private:
  std::uint64_t state_;
};

}  // namespace gimbal
