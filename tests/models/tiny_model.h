#pragma once

#include <memory>

#include "base/temporary_folder.h"
#include "base/thread_pool.h"
#include "model/forward.h"
#include "synthetic/options.h"

namespace gimbal::tests {

// A model small enough to be made, loaded and run within a test: two or three layers of every kind
// that the family has.
[[nodiscard]] synthetic::SyntheticOptions tiny_options(synthetic::Family family);

// Makes a checkpoint and loads it. Fails the test on any error.
[[nodiscard]] std::unique_ptr<model::Model> make_and_load(
    const synthetic::SyntheticOptions& options, tensor::DType dtype, ThreadPool& pool);

}  // namespace gimbal::tests
