#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/router.h"

namespace gimbal::kernels {

void route_reference(const RouterOptions& options, tensor::ConstMatrixView logits,
                     std::span<std::int32_t> experts, std::span<float> weights) {
  const auto count = static_cast<std::size_t>(logits.cols);
  const auto k = static_cast<std::size_t>(options.top_k);
  for (std::int64_t r = 0; r < logits.rows; ++r) {
    const std::span<const float> row(logits.row_as<float>(r), count);
    double highest = row[0];
    for (const float x : row)
      highest = std::max<double>(highest, x);
    double all = 0.0;
    for (const float x : row)
      all += std::exp(x - highest);
    std::vector<bool> chosen(count, false);
    double selected = 0.0;
    for (std::size_t j = 0; j < k; ++j) {
      std::size_t best = count;
      for (std::size_t e = 0; e < count; ++e) {
        if (!chosen[e] && (best == count || row[e] > row[best])) best = e;
      }
      chosen[best] = true;
      selected += std::exp(row[best] - highest);
    }
    std::size_t slot = static_cast<std::size_t>(r) * k;
    for (std::size_t e = 0; e < count; ++e) {
      if (!chosen[e]) continue;
      experts[slot] = static_cast<std::int32_t>(e);
      const double total = options.renormalize ? selected : all;
      weights[slot++] = static_cast<float>(std::exp(row[e] - highest) / total);
    }
  }
}

}  // namespace gimbal::kernels
