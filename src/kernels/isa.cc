#include "kernels/isa.h"

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <iterator>
#include <string>

namespace gimbal::kernels {
namespace {

struct Support {
  bool avx2 = false;
  bool avx512 = false;
  bool avx512_bf16 = false;
  bool amx_bf16 = false;
};

#if defined(__x86_64__)
// Linux gives a process the use of tile registers only when it asks.
bool request_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Support detect() {
  __builtin_cpu_init();
  Support support;
  support.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                 __builtin_cpu_supports("f16c");
  support.avx512 = support.avx2 && __builtin_cpu_supports("avx512f") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512dq");
  support.avx512_bf16 = support.avx512 && __builtin_cpu_supports("avx512bf16");
  support.amx_bf16 = support.avx512_bf16 && __builtin_cpu_supports("amx-tile") &&
                     __builtin_cpu_supports("amx-bf16") && request_tiles();
  return support;
}
#else
Support detect() {
  return {};
}
#endif

const Support& support() {
  static const Support found = detect();
  return found;
}

}  // namespace

bool isa_supported(Isa isa) {
  switch (isa) {
    case Isa::kReference:
      return true;
    case Isa::kAvx2:
      return support().avx2;
    case Isa::kAvx512:
      return support().avx512;
    case Isa::kAvx512Bf16:
      return support().avx512_bf16;
    case Isa::kAmxBf16:
      return support().amx_bf16;
  }
  return false;
}

Isa best_isa() {
  return *std::find_if(std::rbegin(kAllIsas), std::rend(kAllIsas), isa_supported);
}

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::kReference:
      return "reference";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
    case Isa::kAmxBf16:
      return "amx_bf16";
  }
  return "unknown";
}

Result<Isa> parse_isa(std::string_view name) {
  for (const Isa isa : kAllIsas) {
    if (name == to_string(isa)) return isa;
  }
  return invalid_argument(
      "isa must be one of reference, avx2, avx512, avx512_bf16, amx_bf16, not '" +
          std::string(name) + "'",
      "isa");
}

}  // namespace gimbal::kernels
