// Times the matrix kernels against the limits of the machine they run on: the bandwidth at which it
// reads memory, and the rate of its multiply-adds. Limits and kernels take turns, round by round,
// and shares are medians over the rounds, because other programs use the machine too.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "apps/matrix_yardstick.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "bench/machine_limits.h"
#include "kernels/expert_ffn.h"
#include "kernels/matmul.h"
#include "tensor/buffer.h"

namespace gimbal::bench {
namespace {

using kernels::ExpertRun;
using kernels::ExpertWeights;
using kernels::Isa;
using kernels::PackedMatrixView;
using tensor::Buffer;
using tensor::DType;

constexpr std::int64_t kHidden = 1024;
constexpr std::int64_t kIntermediate = 768;
constexpr std::int64_t kMaxRows = 2048;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// One thing to time, and what it costs at least.
struct Subject {
  std::string name;
  double bytes = 0;
  double operations = 0;
  std::function<void()> run;
  std::vector<double> seconds = {};
};

// Weights, inputs and outputs that all subjects share. Every element is a small number.
class Arena {
 public:
  Arena(DType dtype, std::size_t weight_bytes)
      : dtype_(dtype),
        weights_(weight_bytes),
        input_(kMaxRows * kHidden * 8 * size_of(dtype)),
        output_(kMaxRows * kHidden * 8 * size_of(dtype)) {
    fill(weights_);
    fill(input_);
    fill(output_);
  }

  [[nodiscard]] std::span<const std::byte> weights() const {
    return {weights_.data(), weights_.size()};
  }
  [[nodiscard]] tensor::MatrixView input(std::int64_t rows, std::int64_t cols) const {
    return {input_.data(), dtype_, rows, cols, cols};
  }
  [[nodiscard]] tensor::MatrixView output(std::int64_t rows, std::int64_t cols) const {
    return {output_.data(), dtype_, rows, cols, cols};
  }
  // Consecutive matrices of the arena, starting over at its end, so that a matrix has left the
  // caches when it comes again.
  PackedMatrixView next(std::int64_t n, std::int64_t k) {
    const std::size_t bytes = kernels::packed_bytes(dtype_, n, k);
    if (at_ + bytes > weights_.size()) at_ = 0;
    const PackedMatrixView view{weights_.data() + at_, dtype_, n, k};
    at_ += bytes;
    return view;
  }
  [[nodiscard]] DType dtype() const { return dtype_; }

 private:
  void fill(const Buffer& buffer) const {
    Rng rng(1);
    std::vector<std::byte> pattern(1 << 16);
    for (std::size_t i = 0; i < pattern.size(); i += size_of(dtype_)) {
      const auto value = static_cast<float>(rng.uniform() - 0.5);
      const tensor::BFloat16 rounded = tensor::to_bfloat16(value);
      if (dtype_ == DType::kF32) {
        std::memcpy(&pattern[i], &value, sizeof(value));
      } else {
        std::memcpy(&pattern[i], &rounded, sizeof(rounded));
      }
    }
    for (std::size_t at = 0; at < buffer.size(); at += pattern.size())
      std::memcpy(buffer.data() + at, pattern.data(), std::min(pattern.size(), buffer.size() - at));
  }

  DType dtype_;
  Buffer weights_;
  Buffer input_;
  Buffer output_;
  std::size_t at_ = 0;
};

Subject matmul_subject(const kernels::KernelContext& context, Arena& arena, std::int64_t m,
                       std::int64_t n, std::int64_t k, int repeats) {
  const auto bytes = static_cast<double>(kernels::packed_bytes(arena.dtype(), n, k));
  return {.name = "matmul m=" + std::to_string(m) + " n=" + std::to_string(n) +
                  " k=" + std::to_string(k),
          .bytes = bytes * repeats,
          .operations = 2.0 * static_cast<double>(m * n * k) * repeats,
          .run = [=, &arena, context = context] {
            for (int i = 0; i < repeats; ++i)
              kernels::matmul(context, arena.input(m, k), arena.next(n, k), arena.output(m, n));
          }};
}

// `experts` runs of m rows each: a mixture-of-experts layer.
Subject expert_subject(const kernels::KernelContext& context, Arena& arena,
                       kernels::ExpertFfnWorkspace& workspace, std::int64_t m, int experts) {
  const std::int64_t gate_up = kernels::gate_up_rows(kIntermediate);
  const double weights = static_cast<double>(gate_up * kHidden + kHidden * kIntermediate);
  std::vector<std::int32_t> rows(m * experts);
  std::iota(rows.begin(), rows.end(), 0);
  return {.name = "expert_ffn " + std::to_string(experts) + " runs of " + std::to_string(m) +
                  ", 1024 x 768",
          .bytes = weights * experts * static_cast<double>(size_of(arena.dtype())),
          .operations = 2.0 * weights * static_cast<double>(m) * experts,
          .run = [=, &arena, &workspace, context = context] {
            std::vector<ExpertWeights> layer(experts);
            std::vector<ExpertRun> runs(experts);
            for (int e = 0; e < experts; ++e) {
              layer[e].gate_up = arena.next(gate_up, kHidden);
              layer[e].down = arena.next(kHidden, kIntermediate);
              const std::span part = std::span(rows).subspan(e * m, m);
              runs[e] = {.weights = &layer[e], .input_rows = part, .output_rows = part};
            }
            kernels::expert_ffn(context, arena.input(m * experts, kHidden), runs,
                                arena.output(m * experts, kHidden), workspace);
          }};
}

// Packing of weights as a checkpoint holds them, on all workers; bytes are those of the source.
Subject pack_subject(const kernels::KernelContext& context, const Arena& arena,
                     const Buffer& packed) {
  constexpr std::int64_t kRows = 512;  // a task's
  const std::size_t task_bytes = kernels::packed_bytes(arena.dtype(), kRows, kHidden);
  const auto tasks = static_cast<int>(packed.size() / task_bytes);
  return {.name = "pack_rows k=1024",
          .bytes = static_cast<double>(task_bytes) * tasks,
          .operations = 0,
          .run = [=, &arena, &packed, context = context] {
            context.pool.run(tasks, [&](int task, int) {
              const std::size_t at = static_cast<std::size_t>(task) * task_bytes;
              kernels::pack_rows(
                  {arena.weights().data() + at, arena.dtype(), kRows, kHidden, kHidden}, 0,
                  arena.dtype(), packed.data() + at);
            });
          }};
}

// What packing is held against: the same bytes, copied.
Subject copy_subject(const kernels::KernelContext& context, const Arena& arena,
                     const Buffer& packed) {
  constexpr std::size_t kTaskBytes = std::size_t{1} << 20;
  const auto tasks = static_cast<int>(packed.size() / kTaskBytes);
  return {.name = "memcpy",
          .bytes = static_cast<double>(kTaskBytes) * tasks,
          .operations = 0,
          .run = [=, &arena, &packed, context = context] {
            context.pool.run(tasks, [&](int task, int) {
              const std::size_t at = static_cast<std::size_t>(task) * kTaskBytes;
              std::memcpy(packed.data() + at, arena.weights().data() + at, kTaskBytes);
            });
          }};
}

std::vector<Subject> subjects(const kernels::KernelContext& context, Arena& arena,
                              kernels::ExpertFfnWorkspace& workspace) {
  std::vector<Subject> all;
  for (const std::int64_t m : {1, 2, 4, 8})
    all.push_back(expert_subject(context, arena, workspace, m, 32));
  all.push_back(expert_subject(context, arena, workspace, 1, 4));
  for (const std::int64_t m : {1, 8}) {
    all.push_back(matmul_subject(context, arena, m, 32000, kHidden, 1));
    all.push_back(matmul_subject(context, arena, m, 1536, kHidden, 20));
  }
  all.push_back(expert_subject(context, arena, workspace, 16, 8));
  all.push_back(expert_subject(context, arena, workspace, 64, 8));
  all.push_back(matmul_subject(context, arena, 512, 1536, kHidden, 1));
  all.push_back(matmul_subject(context, arena, 512, kHidden, 768, 1));
  all.push_back(matmul_subject(context, arena, 2048, 1536, kHidden, 1));
  return all;
}

// oneDNN on as many CPUs as the pool has workers; null where the build has none.
std::unique_ptr<apps::MatrixYardstick> yardstick_of(const ThreadPool& pool, Isa isa, DType dtype) {
  std::vector<int> cpus(pool.workers());
  std::iota(cpus.begin(), cpus.end(), 0);
  return apps::onednn_yardstick(cpus, true, dtype == DType::kBF16 && isa >= Isa::kAvx512Bf16);
}

double time_of(const ThreadPool& pool, const std::function<void()>& run) {
  const double start = seconds_now(pool);
  run();
  return seconds_now(pool) - start;
}

void measure(Isa isa, DType dtype, int workers, int rounds) {
  ThreadPool pool({.workers = workers});
  pool.pin_caller();
  const kernels::KernelContext context{pool, isa};
  Arena arena(dtype, std::size_t{640} << 20);
  kernels::ExpertFfnWorkspace workspace({.dtype = dtype,
                                         .rows = kMaxRows,
                                         .hidden = kHidden,
                                         .intermediate = kIntermediate,
                                         .runs = 32});
  const Buffer packed(std::size_t{128} << 20);
  auto all = subjects(context, arena, workspace);
  all.push_back(copy_subject(context, arena, packed));
  all.push_back(pack_subject(context, arena, packed));
  const int streams[] = {1, 4, 8};
  std::vector<double> stream_rates[3];
  std::vector<double> bandwidth;
  std::vector<double> peak;
  const auto yardstick = yardstick_of(pool, isa, dtype);
  std::vector<double> yardstick_rates;
  for (int round = 0; round < rounds; ++round) {
    const auto part = arena.weights().first(std::size_t{256} << 20);
    for (int i = 0; i < 3; ++i)
      stream_rates[i].push_back(read_bandwidth(pool, isa, part, streams[i]));
    bandwidth.push_back(
        std::max({stream_rates[0].back(), stream_rates[1].back(), stream_rates[2].back()}));
    peak.push_back(multiply_add_peak(pool, isa, dtype));
    if (yardstick != nullptr) yardstick_rates.push_back(yardstick->rate());
    for (Subject& subject : all)
      subject.seconds.push_back(time_of(pool, subject.run));
  }
  std::printf("%s %s, %d workers, %d rounds\n", std::string(to_string(isa)).c_str(),
              std::string(to_string(dtype)).c_str(), pool.workers(), rounds);
  std::printf("read GB/s: %.1f with 1 stream a thread, %.1f with 4, %.1f with 8\n",
              median(stream_rates[0]) / 1e9, median(stream_rates[1]) / 1e9,
              median(stream_rates[2]) / 1e9);
  std::printf("multiply-add GFLOP/s: %.1f\n", median(peak) / 1e9);
  if (yardstick != nullptr) {
    std::printf("%s GFLOP/s: %.1f\n", std::string(yardstick->name()).c_str(),
                median(yardstick_rates) / 1e9);
  }
  std::printf("%-38s %9s %8s %7s %9s %7s\n", "subject", "ms", "GB/s", "of read", "GFLOP/s",
              "of peak");
  for (const Subject& subject : all) {
    std::vector<double> read_share;
    std::vector<double> peak_share;
    for (int round = 0; round < rounds; ++round) {
      read_share.push_back(subject.bytes / subject.seconds[round] / bandwidth[round]);
      peak_share.push_back(subject.operations / subject.seconds[round] / peak[round]);
    }
    const double seconds = median(subject.seconds);
    std::printf("%-38s %9.3f %8.2f %6.1f%% %9.1f %6.1f%%\n", subject.name.c_str(), seconds * 1e3,
                subject.bytes / seconds / 1e9, median(read_share) * 100,
                subject.operations / seconds / 1e9, median(peak_share) * 100);
  }
}

}  // namespace
}  // namespace gimbal::bench

int main(int argc, char** argv) {
  CLI::App app("Times the matrix kernels against the machine's limits");
  std::string isa_name;
  std::string dtype_name = "bfloat16";
  int workers = 0;
  int rounds = 15;
  app.add_option("--isa", isa_name, "level (default: the best)");
  app.add_option("--dtype", dtype_name, "bfloat16 or float32");
  app.add_option("--workers", workers, "threads (default: all CPUs); 1 measures processor time");
  app.add_option("--rounds", rounds, "rounds to take the median of");
  CLI11_PARSE(app, argc, argv);
  auto isa = gimbal::kernels::best_isa();
  if (!isa_name.empty()) {
    const auto parsed = gimbal::kernels::parse_isa(isa_name);
    if (!parsed.ok() || !gimbal::kernels::isa_supported(*parsed)) {
      std::fprintf(stderr, "this processor cannot run isa '%s'\n", isa_name.c_str());
      return 2;
    }
    isa = *parsed;
  }
  const auto dtype = gimbal::tensor::parse_dtype(dtype_name);
  if (!dtype.ok()) {
    std::fprintf(stderr, "%s\n", dtype.error().message.c_str());
    return 2;
  }
  gimbal::bench::measure(isa, *dtype, workers, std::max(rounds, 1));
  return 0;
}
