#include "apps/engine_bench_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace gimbal::apps {
namespace {

using nlohmann::json;

const char* page_kind(const EngineBenchReport& report) {
  if (report.huge_page_share > 0.9) return "huge";
  return report.huge_page_share < 0.1 ? "small" : "mixed";
}

}  // namespace

json to_json(const EngineBenchReport& report) {
  json rows = json::array();
  for (const EngineBenchRow& row : report.rows) {
    rows.push_back({{"test", row.test},
                    {"batch", row.batch},
                    {"tokens_per_second", to_json(row.tokens_per_second)},
                    {"bandwidth_fraction", row.bandwidth_fraction},
                    {"compute_fraction", row.compute_fraction},
                    {"distinct_experts", row.distinct_experts},
                    {"bytes_touched", row.bytes_touched},
                    {"service_fraction", row.service_fraction},
                    {"disturbed", row.disturbed}});
  }
  return {{"machine",
           {{"processor", report.processor},
            {"cpus", report.cpus},
            {"threads", report.threads},
            {"pinned", report.pinned},
            {"isa", report.isa},
            {"page_kind", page_kind(report)},
            {"huge_page_share", report.huge_page_share},
            {"read_bandwidth", to_json(report.read_bandwidth)},
            {"matrix_yardstick", report.matrix_yardstick},
            {"matrix_rate", to_json(report.matrix_rate)}}},
          {"model",
           {{"architecture", report.model},
            {"dtype", report.dtype},
            {"weight_bytes", report.weight_bytes}}},
          {"repetitions", report.repetitions},
          {"depth", report.depth},
          {"rows", std::move(rows)}};
}

std::string to_text(const EngineBenchReport& report) {
  std::string text =
      fmt::format("{}, {:.3f} GB of {} weights in {} pages; {}, {} {}threads, {}\n", report.model,
                  report.weight_bytes * 1e-9, report.dtype, page_kind(report), report.processor,
                  report.threads, report.pinned ? "pinned " : "", report.isa);
  text +=
      fmt::format("read bandwidth {} GB/s; {} {} TFLOP/s; {} repetitions, median (min to max)\n",
                  to_text(report.read_bandwidth, 1e9), report.matrix_yardstick,
                  to_text(report.matrix_rate, 1e12), report.repetitions);
  text += fmt::format("{:<10} {:>30} {:>9} {:>8} {:>8} {:>9} {:>8}\n", "test", "tokens/s",
                      "bandwidth", "compute", "experts", "MB/step", "service");
  bool disturbed = false;
  for (const EngineBenchRow& row : report.rows) {
    text += fmt::format("{:<10} {:>30} {:>7.1f} % {:>6.1f} % {:>8.2f} {:>9.1f} {:>6.1f} %{}\n",
                        row.test, to_text(row.tokens_per_second, 1.0), 100 * row.bandwidth_fraction,
                        100 * row.compute_fraction, row.distinct_experts, row.bytes_touched * 1e-6,
                        100 * row.service_fraction, row.disturbed ? " *" : "");
    disturbed = disturbed || row.disturbed;
  }
  if (disturbed) text += "* other programs used the CPUs during a repetition\n";
  return text;
}

}  // namespace gimbal::apps
