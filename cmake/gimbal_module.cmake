# Warnings and sanitizers, on one interface target that every target of the project links.
add_library(gimbal_options INTERFACE)
target_compile_options(gimbal_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow
                       -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers
                       -Werror
                       -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID STREQUAL Clang)  # libstdc++'s std::stable_sort calls what C++17 deprecates
  target_compile_options(gimbal_options INTERFACE -Wno-deprecated-declarations)
endif()
if(GIMBAL_SANITIZE)
  target_compile_options(gimbal_options INTERFACE -fsanitize=${GIMBAL_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(gimbal_options INTERFACE -fsanitize=${GIMBAL_SANITIZE})
endif()

if(GIMBAL_FUZZ)  # coverage for libFuzzer; its targets alone link the fuzzer itself
  target_compile_options(gimbal_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# Where compile time matters more than the code it gives: tests, and in sanitizer presets everything but the modules
# that handle raw memory. Those keep UndefinedBehaviorSanitizer's checks of every pointer; elsewhere AddressSanitizer
# finds most of what they would find.
set(GIMBAL_RAW_MEMORY_MODULES tensor kernels comm checkpoint kv model)
add_library(gimbal_quick_options INTERFACE)
target_link_libraries(gimbal_quick_options INTERFACE gimbal_options)
target_compile_options(gimbal_quick_options INTERFACE -O0)
if(GIMBAL_SANITIZE MATCHES undefined)
  target_compile_options(gimbal_quick_options INTERFACE -fno-sanitize=null,alignment,vptr,object-size)
endif()

include(precompiled)

# All test programs, without the rest.
add_custom_target(gimbal_tests)

# gimbal_module(NAME [THREADED] [TESTS_APART] HDRS header... SRCS source... DEPS module... LIBS library... TESTS source...
#               TEST_DEPS module... TEST_LABELS label...)
#
# Makes the library gimbal_NAME (alias gimbal::NAME) of src/NAME, lets all_verify_interface_header_sets compile alone
# the headers that nothing includes first, and makes one test program gimbal_NAME_test whose tests CTest runs one by one.
# Paths are relative to src/NAME. DEPS and LIBS are public. THREADED: its tests start threads and need
# no Python, so they run under ThreadSanitizer too. TESTS_APART: its tests are not compiled several as one.
function(gimbal_module name)
  cmake_parse_arguments(ARG "THREADED;TESTS_APART" "" "HDRS;SRCS;DEPS;LIBS;PRIVATE_LIBS;TESTS;TEST_DEPS;TEST_LIBS;TEST_LABELS" ${ARGN})
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "gimbal_module(${name}): unknown arguments ${ARG_UNPARSED_ARGUMENTS}")
  endif()
  set(target gimbal_${name})
  list(TRANSFORM ARG_DEPS PREPEND gimbal::)
  if(ARG_SRCS)
    add_library(${target} STATIC ${ARG_SRCS})
    set(scope PUBLIC)
    if(name IN_LIST GIMBAL_RAW_MEMORY_MODULES)
      target_link_libraries(${target} PRIVATE gimbal_options)
    else()
      gimbal_build_as_the_program(${target})
    endif()
    target_link_libraries(${target} PRIVATE ${ARG_PRIVATE_LIBS})
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  add_library(gimbal::${name} ALIAS ${target})
  target_include_directories(${target} ${scope} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${target} ${scope} ${ARG_DEPS} ${ARG_LIBS})
  # A header whose own source includes it first, as tools/check_layers.py demands, is compiled alone there.
  foreach(header ${ARG_HDRS})
    get_filename_component(stem ${header} NAME_WLE)
    if("${stem}.cc" IN_LIST ARG_SRCS)
      list(APPEND proven ${header})
    else()
      list(APPEND to_verify ${header})
    endif()
  endforeach()
  target_sources(${target} ${scope} FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/src FILES ${to_verify}
                 FILE_SET proven TYPE HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/src FILES ${proven})
  set_target_properties(${target} PROPERTIES INTERFACE_HEADER_SETS_TO_VERIFY HEADERS)
  if(GIMBAL_SANITIZE MATCHES thread AND NOT ARG_THREADED)
    return()
  endif()
  if(GIMBAL_TESTS AND ARG_TESTS)
    if(NOT ARG_TEST_LABELS)
      set(ARG_TEST_LABELS unit)
    endif()
    list(TRANSFORM ARG_TEST_DEPS PREPEND gimbal::)
    add_executable(${target}_test ${ARG_TESTS})
    gimbal_build_quickly(${target}_test)
    if(ARG_TESTS_APART)
      set_target_properties(${target}_test PROPERTIES UNITY_BUILD OFF)
    endif()
    target_link_libraries(${target}_test PRIVATE gimbal::${name} ${ARG_TEST_DEPS} ${ARG_TEST_LIBS} GTest::gmock
                          GTest::gtest_main)
    add_dependencies(gimbal_tests ${target}_test)
    gtest_discover_tests(${target}_test DISCOVERY_MODE PRE_TEST
                         PROPERTIES LABELS "${ARG_TEST_LABELS}" TIMEOUT 900)
  endif()
endfunction()
