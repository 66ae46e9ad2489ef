#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace gimbal::cluster {

// What services have run of the rows that one engine sent to experts, since the start: the engine
// caused it, the ranks of its group executed it. Value type.
struct ExpertWork {
  ExpertWork() = default;
  ExpertWork(int num_layers, int num_ranks)
      : ranks(num_ranks),
        rows(static_cast<std::size_t>(num_layers) * static_cast<std::size_t>(num_ranks)),
        distinct_experts(rows.size()) {}

  int ranks = 0;  // of the group; 1: the engine runs its own experts; 0: nothing is known
  // (row, expert) pairs, [layers, ranks]. Rows that were run again, and those of steps without
  // requests (lockstep), count too.
  std::vector<std::uint64_t> rows;
  // Experts that ran any of these rows, summed over runs, [layers, ranks]. One whose run has rows
  // of several engines counts in full for each: what each would have had read by itself.
  std::vector<std::uint64_t> distinct_experts;
};

// [layers, ranks] summed over layers: [ranks].
[[nodiscard]] inline std::vector<std::uint64_t> by_rank(std::span<const std::uint64_t> cells,
                                                        int ranks) {
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(ranks));
  for (std::size_t i = 0; i < cells.size(); ++i)
    sums[i % sums.size()] += cells[i];
  return sums;
}

}  // namespace gimbal::cluster
