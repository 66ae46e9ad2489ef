// Times paged attention against the limits of the machine it runs on: prefill against the rate of
// its multiply-adds, decode against the bandwidth at which it reads memory. Limits and kernels take
// turns, round by round, and shares are medians over the rounds, because other programs use the
// machine too.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "bench/machine_limits.h"
#include "kernels/attention.h"
#include "tensor/buffer.h"

namespace gimbal::bench {
namespace {

using kernels::AttentionSequence;
using kernels::Isa;
using kernels::kPageTokens;
using tensor::DType;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Random queries and a cache of `sequences` sequences of `context` tokens each.
class Subject {
 public:
  Subject(const kernels::AttentionShape& shape, DType dtype, std::int64_t sequences,
          std::int64_t context, std::int64_t rows)
      : shape_(shape),
        layout_{dtype, shape.kv_heads, shape.head_dim},
        rows_(rows),
        context_(context),
        cache_(static_cast<std::size_t>(sequences * context / kPageTokens * layout_.page_bytes())),
        q_(static_cast<std::size_t>(sequences * rows * shape.heads * shape.head_dim * 4)),
        out_(q_.size()) {
    fill(cache_);
    fill(q_);
    const std::int64_t pages = context / kPageTokens;
    for (std::int64_t page = 0; page < sequences * pages; ++page) {
      table_.push_back(static_cast<std::int32_t>(page));
    }
    for (std::int64_t s = 0; s < sequences; ++s) {
      batch_.push_back({s * rows, rows, context - rows, table_.data() + s * pages});
    }
  }

  // Seconds of one call.
  double time(const kernels::KernelContext& context) {
    const std::int64_t cols = shape_.heads * shape_.head_dim;
    const auto total = static_cast<std::int64_t>(batch_.size()) * rows_;
    const tensor::ConstMatrixView q{q_.data(), layout_.dtype, total, cols, cols};
    const tensor::MatrixView out{out_.data(), layout_.dtype, total, cols, cols};
    const double start = seconds_now(context.pool);
    kernels::paged_attention(context, shape_, q, batch_,
                             {cache_.data(), layout_.page_bytes(), layout_}, workspace_, out);
    return seconds_now(context.pool) - start;
  }
  [[nodiscard]] double bytes() const { return static_cast<double>(cache_.size()); }
  // Multiply-adds of the visible (query, key) pairs, two operations each.
  [[nodiscard]] double operations() const {
    const auto first = static_cast<double>(context_ - rows_ + 1);
    const double pairs = static_cast<double>(rows_) * (first + static_cast<double>(context_)) / 2;
    return pairs * static_cast<double>(batch_.size()) * 4.0 *
           static_cast<double>(shape_.heads * shape_.head_dim);
  }
  [[nodiscard]] std::span<const std::byte> memory() const { return {cache_.data(), cache_.size()}; }

 private:
  // Small numbers in either type.
  void fill(tensor::Buffer& buffer) const {
    Rng rng(1);
    const std::size_t count = buffer.size() / size_of(layout_.dtype);
    for (std::size_t i = 0; i < count; ++i) {
      const float value = static_cast<float>(rng.uniform()) - 0.5F;
      if (layout_.dtype == DType::kBF16) {
        buffer.as<tensor::BFloat16>()[i] = tensor::to_bfloat16(value);
      } else {
        buffer.as<float>()[i] = value;
      }
    }
  }

  kernels::AttentionShape shape_;
  kernels::KvLayout layout_;
  std::int64_t rows_;
  std::int64_t context_;
  tensor::Buffer cache_;
  tensor::Buffer q_;
  tensor::Buffer out_;
  std::vector<std::int32_t> table_;
  std::vector<AttentionSequence> batch_;
  kernels::AttentionWorkspace workspace_;
};

void time_prefill(const kernels::KernelContext& context, const kernels::AttentionShape& shape,
                  DType dtype, std::int64_t tokens, int rounds) {
  Subject subject(shape, dtype, 1, tokens, tokens);
  std::vector<double> rates;
  std::vector<double> shares;
  for (int round = 0; round < rounds; ++round) {
    const double peak = multiply_add_peak(context.pool, context.isa, dtype);
    rates.push_back(subject.operations() / subject.time(context));
    shares.push_back(rates.back() / peak);
  }
  std::printf("prefill %5lld tokens          %7.1f GFLOP/s  %5.1f %% of peak\n",
              static_cast<long long>(tokens), median(rates) / 1e9, 100.0 * median(shares));
}

void time_decode(const kernels::KernelContext& context, const kernels::AttentionShape& shape,
                 DType dtype, std::int64_t tokens, int rounds) {
  constexpr std::int64_t kCacheTokens = std::int64_t{1} << 17;  // more than any cache holds
  Subject subject(shape, dtype, kCacheTokens / tokens, tokens, 1);
  std::vector<double> rates;
  std::vector<double> shares;
  for (int round = 0; round < rounds; ++round) {
    const double limit = read_bandwidth(context.pool, context.isa, subject.memory(), 4);
    rates.push_back(subject.bytes() / subject.time(context));
    shares.push_back(rates.back() / limit);
  }
  std::printf("decode %5lld tokens x %4lld    %7.2f GB/s     %5.1f %% of read bandwidth\n",
              static_cast<long long>(tokens), static_cast<long long>(kCacheTokens / tokens),
              median(rates) / 1e9, 100.0 * median(shares));
}

class NoInterrupt final : public Interrupt {
 public:
  void between_tasks() override {}
};

// Notes the longest time between two tasks, or pauses of one.
class LongestTask final : public Interrupt {
 public:
  explicit LongestTask(const ThreadPool& pool) : pool_(pool) {}
  void between_tasks() override {
    const double now = seconds_now(pool_);
    if (last_) longest_ = std::max(longest_, now - *last_);
    last_ = now;
  }
  // Since the last call of take(); seconds.
  double take() {
    last_.reset();
    return std::exchange(longest_, 0);
  }

 private:
  const ThreadPool& pool_;
  std::optional<double> last_;
  double longest_ = 0;
};

// The last `rows` tokens of a long prompt: as a stage of its own, and with pauses so that others'
// rows need not wait long. Longest times between these are medians of calls.
void time_interrupted(const kernels::KernelContext& context, const kernels::AttentionShape& shape,
                      DType dtype, std::int64_t tokens, std::int64_t rows, int rounds) {
  Subject subject(shape, dtype, 1, tokens, rows);
  LongestTask interrupt(context.pool);
  NoInterrupt nothing;
  kernels::KernelContext timed = context;
  timed.interrupt = &interrupt;
  kernels::KernelContext pausing = context;
  pausing.interrupt = &nothing;
  std::vector<double> ratios;
  std::vector<double> longest;
  std::vector<double> whole;
  subject.time(pausing);
  for (int round = 0; round < rounds; ++round) {
    // In turns, for whoever comes second finds other caches.
    const double first = subject.time(round % 2 == 0 ? context : pausing);
    const double second = subject.time(round % 2 == 0 ? pausing : context);
    whole.push_back(round % 2 == 0 ? first : second);
    ratios.push_back(round % 2 == 0 ? second / first : first / second);
    interrupt.take();
    subject.time(timed);
    longest.push_back(interrupt.take());
  }
  std::printf(
      "last %5lld of %6lld tokens  %8.2f ms   interruptible %5.3f of that, longest task %6.0f us\n",
      static_cast<long long>(rows), static_cast<long long>(tokens), 1e3 * median(whole),
      median(ratios), 1e6 * median(longest));
}

}  // namespace
}  // namespace gimbal::bench

int main(int argc, char** argv) {
  CLI::App app("Times paged attention against the machine's limits.");
  std::string isa_name(to_string(gimbal::kernels::best_isa()));
  std::string dtype_name = "bfloat16";
  gimbal::kernels::AttentionShape shape{16, 4, 64, 0.125F, 0};
  int threads = 0;
  int rounds = 15;
  bool interruptible = false;
  app.add_option("--isa", isa_name, "instruction set")->capture_default_str();
  app.add_option("--dtype", dtype_name, "bfloat16 or float32")->capture_default_str();
  app.add_option("--heads", shape.heads)->capture_default_str();
  app.add_option("--kv-heads", shape.kv_heads)->capture_default_str();
  app.add_option("--head-dim", shape.head_dim)->capture_default_str();
  app.add_option("--threads", threads, "0: all CPUs")->capture_default_str();
  app.add_option("--rounds", rounds)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_flag("--interruptible", interruptible,
               "compare prefill with the same that pauses for others' rows, instead of the rest");
  CLI11_PARSE(app, argc, argv);
  const auto isa = gimbal::kernels::parse_isa(isa_name);
  const auto dtype = gimbal::tensor::parse_dtype(dtype_name);
  if (!isa || !dtype || *dtype == gimbal::tensor::DType::kF16 || !isa_supported(*isa)) {
    std::fprintf(stderr, "--isa or --dtype: not known or not supported here\n");
    return 2;
  }
  shape.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  gimbal::ThreadPool pool({.workers = threads});
  const gimbal::kernels::KernelContext context{pool, *isa};
  if (interruptible) {
    for (const auto& [tokens, rows] :
         {std::pair{512, 512}, {2048, 2048}, {8192, 512}, {32768, 128}}) {
      gimbal::bench::time_interrupted(context, shape, *dtype, tokens, rows, rounds);
    }
    return 0;
  }
  for (const std::int64_t tokens : {512, 2048, 8192}) {
    gimbal::bench::time_prefill(context, shape, *dtype, tokens, rounds);
  }
  for (const std::int64_t tokens : {1024, 8192}) {
    gimbal::bench::time_decode(context, shape, *dtype, tokens, rounds);
  }
  return 0;
}
