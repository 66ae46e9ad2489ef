#pragma once

// Include before Highway: its run-time targets are the two vector widths that Gimbal has levels
// for. Which one runs is decided by KernelContext::isa (select_simd), not by Highway's own
// dispatch.
#define HWY_BASELINE_TARGETS HWY_AVX2
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)

#include "base/check.h"
#include "kernels/isa.h"

namespace gimbal::kernels {

// The 8-lane or the 16-lane version of a function. Requires: isa is not kReference.
template <class Function>
[[nodiscard]] Function* select_simd(Isa isa, Function* avx2, Function* avx512) {
  GIMBAL_DCHECK(isa != Isa::kReference);
  return isa == Isa::kAvx2 ? avx2 : avx512;
}

}  // namespace gimbal::kernels

// The versions of `function`, a function of HWY_NAMESPACE within the current namespace.
#define GIMBAL_SELECT_SIMD(isa, function) \
  ::gimbal::kernels::select_simd(isa, &N_AVX2::function, &N_AVX3::function)
