#include "base/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <ostream>
#include <utility>

#include "base/check.h"
#include "base/json.h"

namespace gimbal {
namespace {

constexpr std::size_t kMostEvents = std::size_t{1} << 62;  // so that sequence numbers do not wrap

// Each thread keeps to one shard, the next free one when it first records anything.
std::size_t shard_of_this_thread() {
  static std::atomic<std::size_t> threads{0};
  thread_local const std::size_t shard = threads.fetch_add(1, std::memory_order_relaxed);
  return shard;
}

void append_string(std::string& text, std::string_view value) {
  const bool plain = std::all_of(value.begin(), value.end(), [](char c) {
    return c >= ' ' && c < '\x7f' && c != '"' && c != '\\';
  });
  if (plain) {
    text.append(1, '"').append(value).append(1, '"');
  } else {  // escapes, and replaces what is not UTF-8
    text += Json(value).dump(-1, ' ', true, Json::error_handler_t::replace);
  }
}

// Nanoseconds as the format's microseconds, exactly.
void append_us(std::string& text, std::int64_t ns) {
  const std::int64_t size = std::abs(ns);
  fmt::format_to(std::back_inserter(text), "{}{}.{:03}", ns < 0 ? "-" : "", size / 1000,
                 size % 1000);
}

void append_number(std::string& text, double value) {
  if (std::isfinite(value)) {
    fmt::format_to(std::back_inserter(text), "{}", value);
  } else {
    text += "null";
  }
}

}  // namespace

Trace::Trace(std::ostream& out, const TraceOptions& options) : options_(options), out_(out) {
  options_.max_events = std::min(options_.max_events, kMostEvents);
  text_ = R"({"displayTimeUnit":"ms","traceEvents":[)";
}

Trace::~Trace() {
  (void)finish();
}

std::int32_t Trace::add_process(std::string_view name) {
  std::int32_t process = 0;
  {
    const std::lock_guard lock(names_mutex_);
    process = ++processes_;
  }
  const std::lock_guard lock(out_mutex_);
  write_metadata("process_name", {.process = process}, name);
  return process;
}

TraceTrack Trace::add_track(std::int32_t process, std::string_view name) {
  TraceTrack track{.process = process};
  {
    const std::lock_guard lock(names_mutex_);
    GIMBAL_CHECK(process >= 1 && process <= processes_);
    track.thread = ++threads_;
  }
  const std::lock_guard lock(out_mutex_);
  write_metadata("thread_name", track, name);
  return track;
}

std::string_view Trace::intern(std::string_view name) {
  const std::lock_guard lock(names_mutex_);
  const auto found = names_.find(name);
  return found != names_.end() ? *found : *names_.emplace(name).first;
}

void Trace::complete(TraceTrack track, std::string_view name, TimePoint start, TimePoint end,
                     std::initializer_list<TraceArg> args) {
  record({.name = name,
          .time = start,
          .duration = std::max(end - start, Duration::zero()),
          .track = track,
          .phase = 'X'},
         args);
}

void Trace::instant(TraceTrack track, std::string_view name, TimePoint time,
                    std::initializer_list<TraceArg> args) {
  record({.name = name, .time = time, .track = track, .phase = 'i'}, args);
}

void Trace::begin_span(TraceTrack track, std::string_view category, std::uint64_t id,
                       std::string_view name, TimePoint time,
                       std::initializer_list<TraceArg> args) {
  record({.name = name, .category = category, .time = time, .id = id, .track = track, .phase = 'b'},
         args);
}

void Trace::end_span(TraceTrack track, std::string_view category, std::uint64_t id,
                     std::string_view name, TimePoint time, std::initializer_list<TraceArg> args) {
  record({.name = name, .category = category, .time = time, .id = id, .track = track, .phase = 'e'},
         args);
}

void Trace::counter(std::int32_t process, std::string_view name, TimePoint time,
                    std::initializer_list<TraceArg> values) {
  record({.name = name, .time = time, .track = {.process = process}, .phase = 'C'}, values);
}

void Trace::record(Event&& event, std::initializer_list<TraceArg> args) {
  event.sequence = recorded_.fetch_add(1, std::memory_order_relaxed);
  if (event.sequence >= options_.max_events) {
    if (dropped_.fetch_add(1, std::memory_order_relaxed) == 0) {
      first_drop_.store(event.time.time_since_epoch().count(), std::memory_order_relaxed);
    }
    return;
  }
  GIMBAL_DCHECK(args.size() <= kMostArgs);
  event.arg_count = static_cast<std::uint8_t>(std::min(args.size(), kMostArgs));
  std::copy_n(args.begin(), event.arg_count, event.args.begin());
  Shard& shard = shards_[shard_of_this_thread() % kShards];
  const std::lock_guard lock(shard.mutex);
  shard.events.push_back(event);
}

void Trace::flush() {
  const std::lock_guard lock(out_mutex_);
  if (!finished_) write_pending();
}

void Trace::write_pending() {
  pending_.clear();
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    pending_.insert(pending_.end(), shard.events.begin(), shard.events.end());
    shard.events.clear();
  }
  // In the order of recording, so that a span that begins and ends at one time begins first.
  std::sort(pending_.begin(), pending_.end(),
            [](const Event& a, const Event& b) { return a.sequence < b.sequence; });
  constexpr std::size_t kChunk = 1 << 16;
  for (const Event& event : pending_) {
    write_event(event);
    if (text_.size() < kChunk) continue;
    out_ << text_;
    text_.clear();
  }
  out_ << text_;
  text_.clear();
}

Result<void> Trace::finish() {
  const std::lock_guard lock(out_mutex_);
  if (!finished_) {
    finished_ = true;
    recorded_.fetch_add(options_.max_events, std::memory_order_relaxed);  // no more
    const std::uint64_t dropped = dropped_.load(std::memory_order_relaxed);
    write_pending();
    if (dropped > 0) {
      const std::string name = fmt::format("trace full: {} events were dropped", dropped);
      const TimePoint time{Duration{first_drop_.load(std::memory_order_relaxed)}};
      write_event({.name = name, .time = time, .phase = 'i'});
    }
    text_ += fmt::format("],\"otherData\":{{\"dropped_events\":{}}}}}\n", dropped);
    out_ << text_ << std::flush;
    text_.clear();
  }
  if (!out_) return io_error("trace", EIO);
  return {};
}

void Trace::write_separator() {
  text_ += first_ ? "\n" : ",\n";
  first_ = false;
}

void Trace::write_metadata(std::string_view kind, TraceTrack track, std::string_view name) {
  if (finished_) return;
  write_separator();
  fmt::format_to(std::back_inserter(text_), R"({{"ph":"M","name":"{}","pid":{},"tid":{},"args":)",
                 kind, track.process, track.thread);
  text_ += R"({"name":)";
  append_string(text_, name);
  text_ += "}}";
}

void Trace::write_event(const Event& event) {
  write_separator();
  fmt::format_to(std::back_inserter(text_), R"({{"ph":"{}","pid":{},"tid":{},"ts":)", event.phase,
                 event.track.process, event.track.thread);
  append_us(text_, (event.time - options_.origin).count());
  if (event.phase == 'X') {
    text_ += R"(,"dur":)";
    append_us(text_, event.duration.count());
  } else if (event.phase == 'i') {
    text_ += event.track == TraceTrack{} ? R"(,"s":"g")" : R"(,"s":"t")";  // of all, of the thread
  } else if (event.phase == 'b' || event.phase == 'e') {
    fmt::format_to(std::back_inserter(text_), R"(,"id2":{{"local":"{:#x}"}},"cat":)", event.id);
    append_string(text_, event.category);
  }
  text_ += R"(,"name":)";
  append_string(text_, event.name);
  if (event.arg_count > 0) {
    text_ += R"(,"args":)";
    for (std::size_t i = 0; i < event.arg_count; ++i) {
      text_ += i == 0 ? '{' : ',';
      append_string(text_, event.args[i].key);
      text_ += ':';
      append_number(text_, event.args[i].value);
    }
    text_ += '}';
  }
  text_ += '}';
}

}  // namespace gimbal
