# A precompiled header for the sanitizer presets, which CI builds from nothing: parsing the standard library, JSON and
# GoogleTest again in each file is a fifth of that. The other presets have none, so a missing #include stays an error.
if(GIMBAL_SANITIZE AND GIMBAL_TESTS)
  set(source ${CMAKE_BINARY_DIR}/precompiled.cc)
  file(CONFIGURE OUTPUT ${source} CONTENT "// What is precompiled are headers.\n")
  add_library(gimbal_precompiled OBJECT ${source})
  target_link_libraries(gimbal_precompiled PRIVATE gimbal_quick_options Threads::Threads fmt::fmt
                        nlohmann_json::nlohmann_json GTest::gmock)
  target_precompile_headers(gimbal_precompiled PRIVATE
    <algorithm> <array> <atomic> <chrono> <cmath> <cstdint> <deque> <filesystem> <fstream> <functional> <limits> <map>
    <memory> <mutex> <numeric> <optional> <set> <span> <sstream> <string> <string_view> <unordered_map> <utility>
    <variant> <vector> <fmt/format.h> <nlohmann/json.hpp> <gmock/gmock.h> <gtest/gtest.h>)
endif()

# gimbal_use_precompiled(TARGET): TARGET, which has gimbal_quick_options, starts from that header.
function(gimbal_use_precompiled target)
  if(TARGET gimbal_precompiled)
    target_precompile_headers(${target} REUSE_FROM gimbal_precompiled)
    # As GoogleTest's own target says: the compiler wants it the same wherever the header is used.
    target_compile_definitions(${target} PRIVATE GTEST_HAS_PTHREAD=1)
  endif()
endfunction()
