# Every library the build uses, with its version in Debian 12 and the reason it is here.
# The package names that `make` installs stand in tools/debian-packages.txt.

find_package(Threads REQUIRED)

# nlohmann-json 3.11: the field's default JSON library. Kept out of headers where json_fwd.hpp will do.
find_package(nlohmann_json 3.11 REQUIRED)
# fmt 9.1: formatting of messages and of the streamed chunks on the hot path.
find_package(fmt 9 REQUIRED)
# spdlog 1.10: leveled logging to stderr.
find_package(spdlog 1.10 REQUIRED)
# CLI11 2.1: subcommands, --help, and option files.
find_package(CLI11 2.1 REQUIRED)
# Boost 1.81 (Asio, Beast): HTTP server on C++20 coroutines. Header-only as used here.
find_package(Boost 1.81 REQUIRED)
# OpenSSL 3: TLS for the server; SHA-256 of checkpoints.
find_package(OpenSSL 3 REQUIRED)
# Debian's Python 3.11: Hugging Face tokenizers and Jinja2 run embedded, so that every model's tokenizer
# and chat template behaves exactly as its authors ran it.
set(Python3_EXECUTABLE /usr/bin/python3 CACHE FILEPATH "the Python whose library is embedded")
find_package(Python3 3.11 REQUIRED COMPONENTS Interpreter Development.Embed)
# pybind11 2.10: the bridge to that Python.
set(PYTHON_EXECUTABLE ${Python3_EXECUTABLE})
set(PYBIND11_FINDPYTHON OFF)
find_package(pybind11 2.10 REQUIRED)
# prometheus-cpp-core 1.0: metric families and the text exposition.
find_package(prometheus-cpp REQUIRED CONFIG COMPONENTS core)
# Highway 1.0: portable SIMD for ops without a special instruction.
find_package(hwy 1.0 REQUIRED CONFIG)

# oneDNN 2.6 (libdnnl-dev), optional: `gimbal bench engine` holds prefill against its matrix product.
# Looked for by hand, because its package file insists on OpenCL. OpenMP: to place its threads.
find_path(GIMBAL_ONEDNN_INCLUDE_DIR oneapi/dnnl/dnnl.hpp)
find_library(GIMBAL_ONEDNN_LIBRARY dnnl)
find_package(OpenMP QUIET COMPONENTS CXX)
if(NOT GIMBAL_ONEDNN_INCLUDE_DIR OR NOT OpenMP_CXX_FOUND)
  set(GIMBAL_ONEDNN_LIBRARY "")
endif()
mark_as_advanced(GIMBAL_ONEDNN_INCLUDE_DIR GIMBAL_ONEDNN_LIBRARY)

if(GIMBAL_TESTS)
  # GoogleTest 1.12.
  find_package(GTest 1.12 REQUIRED)
  include(GoogleTest)
endif()
if(GIMBAL_BENCH)
  # Google Benchmark 1.7: micro-benchmarks of single ops.
  find_package(benchmark 1.7 REQUIRED)
endif()
