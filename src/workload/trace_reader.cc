#include "workload/trace_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>

#include "base/check.h"
#include "base/json.h"
#include "workload/csv.h"
#include "workload/trace_rows.h"

namespace gimbal::workload {
namespace {

constexpr std::size_t kMaxTraceBytes = std::size_t{4} << 30;
constexpr std::int64_t kMaxBlockSize = 1 << 20;

struct Format {
  TraceFormat format;
  std::string_view name;
  Result<Workload> (*parse)(std::string_view, const TraceOptions&);
};

constexpr std::array<Format, 7> kFormats{{
    {TraceFormat::kGimbal, "gimbal", parse_gimbal},
    {TraceFormat::kMooncake, "mooncake", parse_mooncake},
    {TraceFormat::kBailian, "bailian", parse_bailian},
    {TraceFormat::kAzure, "azure", parse_azure},
    {TraceFormat::kBurstGpt, "burstgpt", parse_burst_gpt},
    {TraceFormat::kShareGptLengths, "sharegpt-lengths", parse_share_gpt_lengths},
    {TraceFormat::kShareGpt, "sharegpt", parse_share_gpt},
}};

const Format& format_of(TraceFormat format) {
  for (const Format& one : kFormats) {
    if (one.format == format) return one;
  }
  GIMBAL_CHECK(false, "a format without a row in the table");
  return kFormats.front();
}

std::string_view first_line(std::string_view text) {
  while (!text.empty()) {
    const auto end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    if (line.find_first_not_of(" \t\r\xEF\xBB\xBF") != std::string_view::npos) return line;
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return text;
}

Error unknown_format() {
  return invalid_argument(
      "not a trace whose format is known; --trace-format says which of gimbal, mooncake, bailian, "
      "azure, burstgpt, sharegpt-lengths and sharegpt it is");
}

Result<TraceFormat> recognise_json_line(std::string_view line) {
  const auto document = parse_json(line, {.unique_keys = false});
  if (!document.ok() || !document->is_object()) return unknown_format();
  if (document->contains("prompt")) return TraceFormat::kGimbal;
  if (document->contains("chat_id")) return TraceFormat::kBailian;
  if (document->contains("hash_ids")) return TraceFormat::kMooncake;
  return unknown_format();
}

Result<TraceFormat> recognise_csv_header(std::string_view line) {
  const auto header = CsvReader::open(line);
  if (!header.ok()) return unknown_format();
  if (header->has_column("ContextTokens")) return TraceFormat::kAzure;
  if (header->has_column("Request tokens")) return TraceFormat::kBurstGpt;
  if (header->has_column("num_prefill_tokens")) return TraceFormat::kShareGptLengths;
  return unknown_format();
}

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return io_error(path, errno);
  const auto size = static_cast<std::streamoff>(file.tellg());
  if (size < 0) return io_error(path, EISDIR);
  if (static_cast<std::size_t>(size) > kMaxTraceBytes) {
    return invalid_argument(
        fmt::format("{}: larger than {} bytes: {}", path, kMaxTraceBytes, size));
  }
  std::string text(static_cast<std::size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(text.data(), size)) return io_error(path, EIO);
  return text;
}

}  // namespace

std::string_view to_string(TraceFormat format) {
  return format_of(format).name;
}

Result<TraceFormat> parse_trace_format(std::string_view name) {
  for (const Format& one : kFormats) {
    if (one.name == name) return one.format;
  }
  return invalid_argument(
      fmt::format("a trace format is gimbal, mooncake, bailian, azure, burstgpt, "
                  "sharegpt-lengths or sharegpt, not '{}'",
                  name),
      "trace_format");
}

Result<TraceFormat> recognise_trace(std::string_view text) {
  const std::string_view line = first_line(text);
  const auto first = line.find_first_not_of(" \t\xEF\xBB\xBF");
  if (first == std::string_view::npos) return invalid_argument("the trace is empty");
  if (line[first] == '[') return TraceFormat::kShareGpt;
  return line[first] == '{' ? recognise_json_line(line) : recognise_csv_header(line);
}

Result<Workload> parse_trace(std::string_view text, const TraceOptions& options) {
  if (options.block_size && (*options.block_size < 1 || *options.block_size > kMaxBlockSize)) {
    return invalid_argument(
        fmt::format("a block has from 1 to {} tokens, not {}", kMaxBlockSize, *options.block_size),
        "block_size");
  }
  TraceFormat format = TraceFormat::kGimbal;
  if (options.format) {
    format = *options.format;
  } else {
    GIMBAL_ASSIGN_OR_RETURN(format, recognise_trace(text));
  }
  GIMBAL_ASSIGN_OR_RETURN(Workload workload, format_of(format).parse(text, options));
  if (workload.requests.empty()) return invalid_argument("the trace has no requests");
  std::stable_sort(
      workload.requests.begin(), workload.requests.end(),
      [](const RequestSpec& a, const RequestSpec& b) { return a.arrival < b.arrival; });
  // A row that is earlier than the first would be before the start.
  const Duration start = std::min(workload.requests.front().arrival, Duration{});
  for (RequestSpec& request : workload.requests)
    request.arrival -= start;
  workload.name = fmt::format("{} trace", to_string(format));
  return workload;
}

Result<Workload> read_trace(const std::string& path, const TraceOptions& options) {
  GIMBAL_ASSIGN_OR_RETURN(const std::string text, read_file(path));
  auto workload = parse_trace(text, options);
  if (!workload.ok()) return workload.error().within(path);
  workload->name = fmt::format("{} ({})", path, workload->name);
  return workload;
}

}  // namespace gimbal::workload
