#include <omp.h>
#include <sched.h>

#include <chrono>
#include <cstdint>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <thread>
#include <unordered_map>
#include <utility>

#include "apps/matrix_yardstick.h"

namespace gimbal::apps {
namespace {

constexpr std::int64_t kSize = 2048;
constexpr double kFlops = 2.0 * kSize * kSize * kSize;
constexpr double kLeastSeconds = 0.1;

using Tag = dnnl::memory::format_tag;
using Type = dnnl::memory::data_type;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

dnnl::memory::desc square(Type type, Tag tag) {
  return {{kSize, kSize}, type, tag};
}

// A matrix of small numbers in the layout `wanted`.
dnnl::memory filled(const dnnl::engine& engine, dnnl::stream& stream,
                    const dnnl::memory::desc& wanted) {
  std::vector<float> values(kSize * kSize);
  std::uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<float>(state >> 8) * 0x1p-24F - 0.5F;
  }
  dnnl::memory plain(square(Type::f32, Tag::ab), engine, values.data());
  dnnl::memory made(wanted, engine);
  dnnl::reorder(plain, made).execute(stream, plain, made);
  stream.wait();
  return made;
}

// The two matrices and their product.
class Problem {
 public:
  explicit Problem(Type type) {
    const dnnl::memory::desc any = square(type, Tag::any);
    const dnnl::matmul::primitive_desc chosen(dnnl::matmul::desc(any, any, any), engine_);
    product_ = dnnl::matmul(chosen);
    arguments_ = {{DNNL_ARG_SRC, filled(engine_, stream_, chosen.src_desc())},
                  {DNNL_ARG_WEIGHTS, filled(engine_, stream_, chosen.weights_desc())},
                  {DNNL_ARG_DST, dnnl::memory(chosen.dst_desc(), engine_)}};
  }
  void run() {
    product_.execute(stream_, arguments_);
    stream_.wait();
  }

 private:
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  dnnl::matmul product_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

class OneDnnYardstick final : public MatrixYardstick {
 public:
  OneDnnYardstick(std::vector<int> cpus, bool pin, bool bf16)
      : cpus_(std::move(cpus)), pin_(pin), bf16_(bf16) {}

  [[nodiscard]] std::string_view name() const override {
    return bf16_ ? "onednn_bf16" : "onednn_f32";
  }
  [[nodiscard]] double rate() override;

 private:
  void place_threads() const;

  std::vector<int> cpus_;
  bool pin_;
  bool bf16_;
  std::optional<Problem> problem_;
};

// OpenMP keeps its threads from one region to the next; thread 0 is the caller.
void OneDnnYardstick::place_threads() const {
  const auto threads = static_cast<int>(cpus_.size());
  omp_set_num_threads(threads);
  if (!pin_) return;
#pragma omp parallel num_threads(threads)
  {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpus_[omp_get_thread_num()], &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
  }
}

double OneDnnYardstick::rate() {
  place_threads();
  if (!problem_) problem_.emplace(bf16_ ? Type::bf16 : Type::f32);
  problem_->run();  // wakes the threads and fills the caches
  const double start = seconds_now();
  int runs = 0;
  double seconds = 0.0;
  while (seconds < kLeastSeconds) {
    problem_->run();
    ++runs;
    seconds = seconds_now() - start;
  }
  // Idle threads of OpenMP spin for a while before they sleep: not into what is measured next.
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return kFlops * runs / seconds;
}

}  // namespace

std::unique_ptr<MatrixYardstick> onednn_yardstick(std::vector<int> cpus, bool pin, bool bf16) {
  return std::make_unique<OneDnnYardstick>(std::move(cpus), pin, bf16);
}

}  // namespace gimbal::apps
