#include "apps/bench_load.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/model_flags.h"
#include "apps/number_range.h"
#include "apps/resident_peak.h"
#include "apps/spread.h"
#include "base/progress.h"
#include "checkpoint/file_handle.h"

namespace gimbal::apps {
namespace {

namespace fs = std::filesystem;
using checkpoint::FileHandle;

constexpr std::uint64_t kPartBytes = std::uint64_t{1} << 20;  // of one read

struct Arguments {
  ModelFlags model;
  int repetitions = 5;
  std::string json_path;
};

double seconds_since(TimePoint start) {
  return to_ms(SteadyClock().now() - start) * 1e-3;
}

// The checkpoint's weight files, and reading them whole.
class WeightFiles {
 public:
  static Result<WeightFiles> open(const std::string& model_dir);

  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  // Reads all files on the pool's threads into fresh memory; returns the seconds it took.
  [[nodiscard]] Result<double> read(ThreadPool& pool, tensor::PageKind pages) const;

 private:
  struct Part {
    std::size_t file = 0;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    std::uint64_t target = 0;
  };
  std::vector<FileHandle> files_;
  std::vector<Part> parts_;
  std::uint64_t bytes_ = 0;
};

Result<WeightFiles> WeightFiles::open(const std::string& model_dir) {
  WeightFiles opened;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(model_dir, error)) {
    if (entry.path().extension() != ".safetensors") continue;
    GIMBAL_ASSIGN_OR_RETURN(FileHandle file, FileHandle::open_to_read(entry.path().string()));
    for (std::uint64_t at = 0; at < file.size(); at += kPartBytes) {
      const std::uint64_t bytes = std::min(kPartBytes, file.size() - at);
      opened.parts_.push_back({opened.files_.size(), at, bytes, opened.bytes_ + at});
    }
    opened.bytes_ += file.size();
    opened.files_.push_back(std::move(file));
  }
  if (opened.files_.empty()) {
    return Error{ErrorCode::kNotFound, model_dir + " has no .safetensors file", "model_dir"};
  }
  return opened;
}

Result<double> WeightFiles::read(ThreadPool& pool, tensor::PageKind pages) const {
  std::atomic<bool> failed{false};
  const TimePoint start = SteadyClock().now();
  const tensor::Buffer memory(bytes_, pages);
  pool.run(static_cast<int>(parts_.size()), [&](int number, int) {
    const Part& part = parts_[static_cast<std::size_t>(number)];
    const auto read =
        files_[part.file].read_at(part.offset, {memory.data() + part.target, part.bytes});
    if (!read.ok()) failed.store(true);
  });
  const double seconds = seconds_since(start);
  if (failed.load()) return io_error("reading the weight files", EIO);
  return seconds;
}

struct LoadReport {
  double weight_bytes = 0.0;
  std::string pages;
  int threads = 0;
  std::vector<double> load_rates;  // bytes a second
  std::vector<double> read_rates;
  std::vector<double> fractions;  // of the readings before and after a load
  double peak_bytes = 0.0;
};

Result<void> measure(const Arguments& arguments, LoadReport& report) {
  GIMBAL_ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::open(arguments.model.model_dir));
  const bool small = arguments.model.small_pages;
  const tensor::PageKind pages = small ? tensor::PageKind::kSmall : tensor::PageKind::kHuge;
  ThreadPool pool({.workers = arguments.model.threads, .pin = !arguments.model.no_pin});
  report.pages = small ? "small" : "huge";
  report.threads = pool.workers();
  const auto bytes = static_cast<double>(files.bytes());
  GIMBAL_RETURN_IF_ERROR(files.read(pool, pages));  // into the system's cache
  GIMBAL_ASSIGN_OR_RETURN(double before, files.read(pool, pages));
  Progress progress("measuring", "repetitions", static_cast<std::uint64_t>(arguments.repetitions));
  for (int repetition = 0; repetition < arguments.repetitions; ++repetition) {
    ResidentPeak::reset();
    const TimePoint start = SteadyClock().now();
    double loading = 0.0;
    {
      GIMBAL_ASSIGN_OR_RETURN(const LoadedModel loaded, load_model(arguments.model));
      loading = seconds_since(start);
      report.weight_bytes = static_cast<double>(loaded.model->weight_bytes());
    }
    report.peak_bytes = std::max(report.peak_bytes, ResidentPeak::bytes());
    GIMBAL_ASSIGN_OR_RETURN(const double after, files.read(pool, pages));
    report.load_rates.push_back(bytes / loading);
    report.read_rates.push_back(bytes / after);
    report.fractions.push_back((before + after) / 2 / loading);
    before = after;
    progress.update(static_cast<std::uint64_t>(repetition) + 1);
  }
  progress.finish();
  return {};
}

Result<void> bench_load(const Arguments& arguments) {
  LoadReport report;
  GIMBAL_RETURN_IF_ERROR(measure(arguments, report));
  const Spread load = spread_of(report.load_rates);
  const Spread read = spread_of(report.read_rates);
  const Spread fraction = spread_of(report.fractions);
  fmt::print("loads {} GB/s, reads {} GB/s with {} threads into {} pages; {} repetitions\n",
             to_text(load, 1e9), to_text(read, 1e9), report.threads, report.pages,
             arguments.repetitions);
  fmt::print("of the rate of reading: {} %\n", to_text(fraction, 0.01));
  fmt::print("peak resident memory {:.0f} MB, weights {:.0f} MB\n", report.peak_bytes / 1e6,
             report.weight_bytes / 1e6);
  if (arguments.json_path.empty()) return {};
  std::ofstream file(arguments.json_path);
  file << nlohmann::json{{"threads", report.threads},
                         {"page_kind", report.pages},
                         {"repetitions", arguments.repetitions},
                         {"load_bytes_per_second", to_json(load)},
                         {"read_bytes_per_second", to_json(read)},
                         {"read_fraction", to_json(fraction)},
                         {"peak_resident_bytes", report.peak_bytes},
                         {"weight_bytes", report.weight_bytes}}
              .dump(2)
       << '\n';
  file.flush();
  if (!file) return io_error("--json " + arguments.json_path, errno);
  return {};
}

}  // namespace

void add_bench_load(CLI::App& bench, int& status) {
  auto* command = bench.add_subcommand("load", "loading of a model, against reading its files");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("model_dir", arguments->model.model_dir, "a Hugging Face checkpoint folder")
      ->required();
  command->add_option("--repetitions", arguments->repetitions, "loads to take the median of")
      ->check(number_range(1, 1000))
      ->capture_default_str();
  command->add_option("--json", arguments->json_path, "write the results to this file too");
  arguments->model.add_to(*command, false);
  command->callback([arguments, &status] {
    const auto result = bench_load(*arguments);
    if (!result.ok()) status = report_failure("bench load", result.error());
  });
}

}  // namespace gimbal::apps
