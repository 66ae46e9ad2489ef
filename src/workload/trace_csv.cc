#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>

#include "base/hash.h"
#include "workload/csv.h"
#include "workload/trace_rows.h"

namespace gimbal::workload {
namespace {

constexpr std::uint64_t kPlainRows = 0x706c61696e726f77;  // identities that no other source makes

bool enough(const Workload& workload, const TraceOptions& options) {
  return options.max_requests > 0 && workload.requests.size() >= options.max_requests;
}

// Takes a number of exactly `digits` digits from the front.
std::optional<int> take_digits(std::string_view& text, std::size_t digits) {
  int value = 0;
  if (text.size() < digits) return {};
  const auto [end, error] = std::from_chars(text.data(), text.data() + digits, value);
  if (error != std::errc() || end != text.data() + digits || value < 0) return {};
  text.remove_prefix(digits);
  return value;
}

bool take(std::string_view& text, std::string_view expected) {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(expected.size());
  return true;
}

// ".1234567" → nanoseconds; nothing → 0.
std::optional<Duration> take_fraction(std::string_view& text) {
  if (!take(text, ".")) return Duration{};
  std::int64_t value = 0;
  std::int64_t unit = 1'000'000'000;
  std::size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') {
    unit /= 10;
    value += (text[digits] - '0') * unit;
    ++digits;
  }
  if (digits == 0) return {};
  text.remove_prefix(digits);
  return Duration{value};
}

// "2023-11-16 18:15:46.6805900", also with "T" between and "Z" or "+00:00" behind; since 1970.
// Years from 2000 to 2099: any two differ by less than kMaxTraceSeconds.
std::optional<Duration> parse_wall_time(std::string_view text) {
  const auto year = take_digits(text, 4);
  if (!year || !take(text, "-")) return {};
  const auto month = take_digits(text, 2);
  if (!month || !take(text, "-")) return {};
  const auto day = take_digits(text, 2);
  if (!day || !(take(text, " ") || take(text, "T"))) return {};
  const auto hour = take_digits(text, 2);
  if (!hour || !take(text, ":")) return {};
  const auto minute = take_digits(text, 2);
  if (!minute || !take(text, ":")) return {};
  const auto second = take_digits(text, 2);
  if (!second) return {};
  const auto fraction = take_fraction(text);
  if (!fraction) return {};
  if (!take(text, "Z")) take(text, "+00:00");
  const std::chrono::year_month_day date{std::chrono::year{*year},
                                         std::chrono::month{static_cast<unsigned>(*month)},
                                         std::chrono::day{static_cast<unsigned>(*day)}};
  const bool valid = date.ok() && *year >= 2000 && *year < 2100 && *hour < 24 && *minute < 60 &&
                     *second <= 60 && text.empty();
  if (!valid) return {};
  return std::chrono::sys_days(date).time_since_epoch() + std::chrono::hours(*hour) +
         std::chrono::minutes(*minute) + std::chrono::seconds(*second) + *fraction;
}

}  // namespace

void add_plain_row(Workload& workload, Duration arrival, std::int64_t prompt_tokens,
                   std::int64_t output_tokens) {
  if (prompt_tokens == 0 || output_tokens == 0) {
    ++workload.skipped_rows;
    return;
  }
  RequestSpec request{.arrival = arrival, .output_tokens = output_tokens};
  request.prompt.push_back(
      {.identity = hash_combine(kPlainRows, workload.requests.size()), .tokens = prompt_tokens});
  workload.requests.push_back(std::move(request));
}

Result<Workload> parse_azure(std::string_view text, const TraceOptions& options) {
  GIMBAL_ASSIGN_OR_RETURN(CsvReader reader, CsvReader::open(text));
  GIMBAL_ASSIGN_OR_RETURN(const std::size_t time, reader.column("TIMESTAMP"));
  GIMBAL_ASSIGN_OR_RETURN(const std::size_t prompt, reader.column("ContextTokens"));
  GIMBAL_ASSIGN_OR_RETURN(const std::size_t output, reader.column("GeneratedTokens"));
  Workload workload{.has_arrivals = true};
  std::optional<Duration> start;
  while (!enough(workload, options)) {
    GIMBAL_ASSIGN_OR_RETURN(const bool more, reader.next());
    if (!more) break;
    const auto at = parse_wall_time(reader.text(time));
    if (!at) return reader.wrong(time, "a time from 2000 to 2099 as 2023-11-16 18:15:46.6805900");
    if (!start) start = *at;
    GIMBAL_ASSIGN_OR_RETURN(const auto prompt_tokens, reader.integer(prompt, 0, kMaxTraceTokens));
    GIMBAL_ASSIGN_OR_RETURN(const auto output_tokens, reader.integer(output, 0, kMaxTraceTokens));
    add_plain_row(workload, *at - *start, prompt_tokens, output_tokens);
  }
  return workload;
}

Result<Workload> parse_burst_gpt(std::string_view text, const TraceOptions& options) {
  GIMBAL_ASSIGN_OR_RETURN(CsvReader reader, CsvReader::open(text));
  GIMBAL_ASSIGN_OR_RETURN(const std::size_t time, reader.column("Timestamp"));
  GIMBAL_ASSIGN_OR_RETURN(const std::size_t prompt, reader.column("Request tokens"));
  GIMBAL_ASSIGN_OR_RETURN(const std::size_t output, reader.column("Response tokens"));
  std::optional<std::size_t> session;
  if (reader.has_column("Session ID")) session = reader.column("Session ID").value();
  Workload workload{.has_arrivals = true};
  std::optional<double> start;
  while (!enough(workload, options)) {
    GIMBAL_ASSIGN_OR_RETURN(const bool more, reader.next());
    if (!more) break;
    GIMBAL_ASSIGN_OR_RETURN(const double seconds, reader.number(time, 0.0, kMaxTraceSeconds));
    if (!start) start = seconds;
    GIMBAL_ASSIGN_OR_RETURN(const auto prompt_tokens, reader.integer(prompt, 0, kMaxTraceTokens));
    GIMBAL_ASSIGN_OR_RETURN(const auto output_tokens, reader.integer(output, 0, kMaxTraceTokens));
    const std::size_t before = workload.requests.size();
    add_plain_row(workload, Duration{std::llround((seconds - *start) * 1e9)}, prompt_tokens,
                  output_tokens);
    if (session && workload.requests.size() > before) {
      workload.requests.back().user = reader.text(*session);
    }
  }
  return workload;
}

Result<Workload> parse_share_gpt_lengths(std::string_view text, const TraceOptions& options) {
  GIMBAL_ASSIGN_OR_RETURN(CsvReader reader, CsvReader::open(text));
  GIMBAL_ASSIGN_OR_RETURN(const std::size_t prompt, reader.column("num_prefill_tokens"));
  GIMBAL_ASSIGN_OR_RETURN(const std::size_t output, reader.column("num_decode_tokens"));
  Workload workload;
  while (!enough(workload, options)) {
    GIMBAL_ASSIGN_OR_RETURN(const bool more, reader.next());
    if (!more) break;
    GIMBAL_ASSIGN_OR_RETURN(const auto prompt_tokens, reader.integer(prompt, 0, kMaxTraceTokens));
    GIMBAL_ASSIGN_OR_RETURN(const auto output_tokens, reader.integer(output, 0, kMaxTraceTokens));
    add_plain_row(workload, Duration{}, prompt_tokens, output_tokens);
  }
  return workload;
}

}  // namespace gimbal::workload
