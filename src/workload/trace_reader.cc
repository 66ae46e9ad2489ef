#include "workload/trace_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "workload/csv.h"
#include "workload/trace_rows.h"
#include "workload/transforms.h"

namespace gimbal::workload {
namespace {

constexpr std::size_t kMaxTraceBytes = std::size_t{4} << 30;
constexpr std::size_t kReadBytes = std::size_t{1} << 20;
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

struct FirstLine {
  std::string_view text;
  std::size_t number = 1;  // in the trace
};

// The first line that is not blank; an empty one where there is none.
FirstLine first_line(std::string_view text) {
  FirstLine line;
  while (!text.empty()) {
    const auto end = text.find('\n');
    line.text = text.substr(0, end);
    if (line.text.find_first_not_of(" \t\r\xEF\xBB\xBF") != std::string_view::npos) return line;
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++line.number;
  }
  return {};
}

constexpr std::string_view kHint =
    "--trace-format says which of gimbal, mooncake, bailian, azure, burstgpt, sharegpt-lengths and "
    "sharegpt it is";

Error unknown_format(std::size_t line) {
  return invalid_argument(
      fmt::format("line {}: not of a trace whose format is known; {}", line, kHint));
}

Result<TraceFormat> recognise_json_line(const FirstLine& line) {
  std::size_t column = 0;
  const auto document = parse_json(line.text, {.unique_keys = false}, column);
  if (!document.ok()) {
    return invalid_argument(fmt::format("line {}, column {}: {}; {}", line.number, column,
                                        document.error().message, kHint));
  }
  if (!document->is_object()) return unknown_format(line.number);
  if (document->contains("prompt")) return TraceFormat::kGimbal;
  if (document->contains("chat_id")) return TraceFormat::kBailian;
  if (document->contains("hash_ids")) return TraceFormat::kMooncake;
  return unknown_format(line.number);
}

Result<TraceFormat> recognise_csv_header(std::string_view text, std::size_t line) {
  const auto header = CsvReader::open(text);
  if (!header.ok()) {
    return invalid_argument(fmt::format("{}; {}", header.error().message, kHint));
  }
  if (header->has_column("ContextTokens")) return TraceFormat::kAzure;
  if (header->has_column("Request tokens")) return TraceFormat::kBurstGpt;
  if (header->has_column("num_prefill_tokens")) return TraceFormat::kShareGptLengths;
  return unknown_format(line);
}

// From beginning to end, so that a pipe is read too.
Result<std::string> read_file(const std::string& path) {
  std::error_code none;
  if (std::filesystem::is_directory(path, none)) return io_error(path, EISDIR);
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return io_error(path, errno);
  std::string text;
  const auto size = std::filesystem::file_size(path, none);
  if (!none && size <= kMaxTraceBytes) text.reserve(static_cast<std::size_t>(size));
  std::vector<char> block(kReadBytes);
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    text.append(block.data(), static_cast<std::size_t>(file.gcount()));
    if (text.size() > kMaxTraceBytes) {
      return invalid_argument(fmt::format("{}: larger than {} bytes", path, kMaxTraceBytes));
    }
  }
  if (file.bad()) return io_error(path, EIO);
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
  const FirstLine line = first_line(text);
  const auto first = line.text.find_first_not_of(" \t\xEF\xBB\xBF");
  if (first == std::string_view::npos) return invalid_argument("the trace is empty");
  if (line.text[first] == '[') return TraceFormat::kShareGpt;
  return line.text[first] == '{' ? recognise_json_line(line)
                                 : recognise_csv_header(text, line.number);
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
  if (format != TraceFormat::kGimbal) begin_at_zero(workload);
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
