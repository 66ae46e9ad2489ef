# A precompiled header for what is built quickly: parsing the standard library, JSON and GoogleTest again in each of
# those files would be a third of their time. The program's sources have it in sanitizer presets alone, so that
# elsewhere a missing #include stays an error.
if(GIMBAL_TESTS)
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

# gimbal_build_quickly(TARGET): TARGET has gimbal_quick_options and starts from that header; several of its sources are
# compiled as one, so what stands in their unnamed namespaces needs names of its own in TARGET.
function(gimbal_build_quickly target)
  target_link_libraries(${target} PRIVATE gimbal_quick_options)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  if(TARGET gimbal_precompiled)
    target_precompile_headers(${target} REUSE_FROM gimbal_precompiled)
    # As GoogleTest's own target says: the compiler wants it the same wherever the header is used.
    target_compile_definitions(${target} PRIVATE GTEST_HAS_PTHREAD=1)
  endif()
endfunction()

# gimbal_build_as_the_program(TARGET): TARGET is part of the program: built quickly in sanitizer presets alone.
function(gimbal_build_as_the_program target)
  if(GIMBAL_SANITIZE)
    gimbal_build_quickly(${target})
  else()
    target_link_libraries(${target} PRIVATE gimbal_options)
  endif()
endfunction()
