#include "base/check.h"
#include "kernels/router.h"
#include "kernels/row_chunks.h"
#include "kernels/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/router_cpu.cc"
#include <hwy/foreach_target.h>

#include "kernels/softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace gimbal::kernels::HWY_NAMESPACE {

// The k highest logits' ids, in ascending order of id. NaN is never above another logit.
HWY_INLINE void choose(const float* logits, std::int64_t count, std::int64_t k, std::int32_t* ids) {
  // First by descending logit; among equals the id that came first stays ahead.
  for (std::int64_t e = 0; e < count; ++e) {
    std::int64_t place = std::min(e, k);
    if (place == k && !(logits[e] > logits[ids[k - 1]])) continue;
    if (place == k) --place;
    for (; place > 0 && logits[e] > logits[ids[place - 1]]; --place)
      ids[place] = ids[place - 1];
    ids[place] = static_cast<std::int32_t>(e);
  }
  for (std::int64_t j = 1; j < k; ++j) {
    const std::int32_t id = ids[j];
    std::int64_t place = j;
    for (; place > 0 && ids[place - 1] > id; --place)
      ids[place] = ids[place - 1];
    ids[place] = id;
  }
}

void route_rows(const RouterOptions& options, const tensor::ConstMatrixView& logits,
                std::int32_t* experts, float* weights) {
  const std::int64_t k = options.top_k;
  for (std::int64_t r = 0; r < logits.rows; ++r, experts += k, weights += k) {
    const float* row = logits.row_as<float>(r);
    choose(row, logits.cols, k, experts);
    const float maximum = row_maximum(row, logits.cols);
    for (std::int64_t j = 0; j < k; ++j) {
      const FloatTag f;
      weights[j] = hn::GetLane(exp_below(hn::Set(f, row[experts[j]]), hn::Set(f, maximum)));
    }
    float total = 0.0F;
    if (options.renormalize) {
      for (std::int64_t j = 0; j < k; ++j)
        total += weights[j];
    } else {
      total = sum_of_exponentials(row, logits.cols, maximum);
    }
    for (std::int64_t j = 0; j < k; ++j)
      weights[j] /= total;
  }
}

}  // namespace gimbal::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gimbal::kernels {

void route(const KernelContext& context, const RouterOptions& options,
           tensor::ConstMatrixView logits, std::span<std::int32_t> experts,
           std::span<float> weights) {
  const std::int64_t k = options.top_k;
  GIMBAL_CHECK(logits.dtype == tensor::DType::kF32 && k >= 1 && k <= logits.cols);
  GIMBAL_CHECK(static_cast<std::int64_t>(experts.size()) == logits.rows * k);
  GIMBAL_CHECK(experts.size() == weights.size());
  if (context.isa == Isa::kReference) return route_reference(options, logits, experts, weights);
  const auto rows = GIMBAL_SELECT_SIMD(context.isa, route_rows);
  for_row_chunks(context, logits.rows, grain_of(8 * logits.cols),
                 [&](std::int64_t begin, std::int64_t end) {
                   rows(options, logits.rows_at(begin, end - begin), experts.data() + begin * k,
                        weights.data() + begin * k);
                 });
}

}  // namespace gimbal::kernels
#endif
