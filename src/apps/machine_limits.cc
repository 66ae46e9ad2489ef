#include "apps/machine_limits.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <vector>

#include "apps/machine_loops.h"
#include "base/clock.h"

namespace gimbal::apps {
namespace {

constexpr std::size_t kReadBytes = std::size_t{2} << 30;
constexpr std::size_t kPartBytes = std::size_t{32} << 20;  // of one task
constexpr int kParts = static_cast<int>(kReadBytes / kPartBytes);
constexpr int kPeakTasksPerWorker = 8;

double seconds_since(TimePoint start) {
  return std::chrono::duration<double>(SteadyClock().now() - start).count();
}

// CPUs that the calling thread may use, at most `count`.
std::vector<int> usable_cpus(int count) {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE && static_cast<int>(cpus.size()) < count; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
  }
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

// The text after "name", blanks and a colon, on the first line of `path` that begins with name.
std::string field_of(const char* path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name)) continue;
    const std::size_t colon = line.find(':');
    const std::size_t begin =
        colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

}  // namespace

MachineLimits::MachineLimits(ThreadPool& pool, const Options& options)
    : pool_(pool),
      options_(options),
      memory_(kReadBytes, options.pages),
      yardstick_(onednn_yardstick(usable_cpus(pool.workers()), options.pin,
                                  options.dtype == tensor::DType::kBF16 &&
                                      kernels::isa_supported(kernels::Isa::kAvx512Bf16))) {
  // Untouched pages are one page of zeroes: each needs memory of its own to be read from.
  pool_.run(kParts, [this](int task, int) {
    std::byte* const part = memory_.data() + static_cast<std::size_t>(task) * kPartBytes;
    std::fill(part, part + kPartBytes, std::byte{static_cast<unsigned char>(task + 1)});
  });
}

double MachineLimits::read_bandwidth(int streams) const {
  std::atomic<std::uint64_t> sum{0};
  const TimePoint start = SteadyClock().now();
  pool_.run(kParts, [&](int task, int) {
    const std::byte* const part = memory_.data() + static_cast<std::size_t>(task) * kPartBytes;
    sum.fetch_xor(read_streams(options_.isa, streams, part, kPartBytes));
  });
  return static_cast<double>(kReadBytes) / seconds_since(start);
}

double MachineLimits::own_peak() const {
  std::atomic<double> operations{0.0};
  const TimePoint start = SteadyClock().now();
  pool_.run(pool_.workers() * kPeakTasksPerWorker,
            [&](int, int) { operations.fetch_add(multiply_add(options_.isa, options_.dtype)); });
  return operations.load() / seconds_since(start);
}

MachineLimits::Sample MachineLimits::measure() {
  Sample sample;
  sample.matrix_rate = yardstick_ ? yardstick_->rate() : own_peak();
  for (const int streams : {1, 4, 8}) {
    sample.read_bandwidth = std::max(sample.read_bandwidth, read_bandwidth(streams));
  }
  return sample;
}

std::string_view MachineLimits::matrix_yardstick() const {
  return yardstick_ ? yardstick_->name() : "own_peak";
}

std::string processor_name() {
  return field_of("/proc/cpuinfo", "model name");
}

double huge_page_bytes() {
  const std::string kilobytes = field_of("/proc/self/smaps_rollup", "AnonHugePages");
  return kilobytes.empty() ? 0.0 : std::stod(kilobytes) * 1024.0;
}

}  // namespace gimbal::apps
