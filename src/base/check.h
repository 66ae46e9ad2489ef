#pragma once

#include <string_view>

namespace gimbal {

// Prints where and what, then aborts. Called by GIMBAL_CHECK only.
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view detail = {});

}  // namespace gimbal

// Aborts unless `condition` holds, in release builds too. For our own bugs only: whatever comes
// from outside the program (a file, a request, a peer) is answered with a Result instead. An
// optional second argument, a string, adds detail.
#define GIMBAL_CHECK(condition, ...)                                                     \
  do {                                                                                   \
    if (!(condition)) [[unlikely]]                                                       \
      ::gimbal::check_failed(__FILE__, __LINE__, #condition __VA_OPT__(, ) __VA_ARGS__); \
  } while (false)

// GIMBAL_CHECK for inner loops: nothing in builds with NDEBUG.
#ifdef NDEBUG
#define GIMBAL_DCHECK(condition, ...) \
  do {                                \
  } while (false && (condition))
#else
#define GIMBAL_DCHECK(condition, ...) GIMBAL_CHECK(condition __VA_OPT__(, ) __VA_ARGS__)
#endif
