#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iosfwd>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace gimbal {

// Where an event is drawn: one line (thread) of one group (process) of the picture.
struct TraceTrack {
  std::int32_t process = 0;
  std::int32_t thread = 0;

  bool operator==(const TraceTrack&) const = default;
};

// A number beside an event. The key is a literal.
struct TraceArg {
  std::string_view key;
  double value = 0;
};

struct TraceOptions {
  std::size_t max_events = 1'000'000;  // in all; later ones are dropped and counted
  TimePoint origin{};                  // time 0 of the picture
};

// Writes what ran when, as a Chrome trace (JSON) that Perfetto and chrome://tracing open. Format:
// "Trace Event Format", Google, 2016.
//
// Whoever records holds a Trace*, null when tracing is off: recording is then one branch. When on,
// an event is a copy into the buffer of one of some shards; text is made by flush() and finish()
// alone. Names and keys are kept by reference: literals, or what intern() gave.
//
// Thread-safe but for the constructor and destructor. The stream must outlive finish(), or the
// destructor, which calls it; nobody else writes to it.
class Trace {
 public:
  static constexpr std::size_t kMostArgs = 4;

  explicit Trace(std::ostream& out, const TraceOptions& options = {});
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // A new group, and a new line in a group, with its name. Not for every event.
  [[nodiscard]] std::int32_t add_process(std::string_view name);
  [[nodiscard]] TraceTrack add_track(std::int32_t process, std::string_view name);
  // Keeps a copy of a name as long as the trace lives; the same name is kept once.
  [[nodiscard]] std::string_view intern(std::string_view name);

  // Something that took from `start` to `end` on one line. On one line they nest.
  void complete(TraceTrack track, std::string_view name, TimePoint start, TimePoint end,
                std::initializer_list<TraceArg> args = {});
  void instant(TraceTrack track, std::string_view name, TimePoint time,
               std::initializer_list<TraceArg> args = {});
  // Spans that belong together by (group, category, id), as the phases of a request do; of one id
  // they nest: the end is that of the last begun with its name.
  void begin_span(TraceTrack track, std::string_view category, std::uint64_t id,
                  std::string_view name, TimePoint time, std::initializer_list<TraceArg> args = {});
  void end_span(TraceTrack track, std::string_view category, std::uint64_t id,
                std::string_view name, TimePoint time, std::initializer_list<TraceArg> args = {});
  // Curves over time: each arg is one of those stacked under `name`. One name a group.
  void counter(std::int32_t process, std::string_view name, TimePoint time,
               std::initializer_list<TraceArg> values);

  // Writes what was recorded so far, so that buffers stay small. From any one thread at a time
  // that may wait for the disk.
  void flush();
  // Writes the rest and the end; events that come later are dropped. The file is valid JSON from
  // here on. kIo if the stream failed at any time. Once is enough.
  Result<void> finish();

  [[nodiscard]] std::uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  struct Event {
    std::uint64_t sequence = 0;
    std::string_view name;
    std::string_view category;
    TimePoint time{};
    Duration duration{};
    std::uint64_t id = 0;
    TraceTrack track;
    char phase = 'X';
    std::uint8_t arg_count = 0;
    std::array<TraceArg, kMostArgs> args{};
  };
  struct alignas(64) Shard {
    std::mutex mutex;
    std::vector<Event> events;
  };
  static constexpr std::size_t kShards = 16;

  void record(Event&& event, std::initializer_list<TraceArg> args);
  void write_pending();  // Requires: out_mutex_ held
  void write_event(const Event& event);
  void write_separator();
  void write_metadata(std::string_view kind, TraceTrack track, std::string_view name);

  TraceOptions options_;
  std::array<Shard, kShards> shards_;
  std::atomic<std::uint64_t> recorded_{0};  // tried to, the dropped ones too
  std::atomic<std::uint64_t> dropped_{0};
  std::atomic<std::int64_t> first_drop_{0};  // its time, 0: none

  std::mutex names_mutex_;
  std::set<std::string, std::less<>> names_;  // their text does not move
  std::int32_t processes_ = 0;
  std::int32_t threads_ = 0;

  std::mutex out_mutex_;
  std::ostream& out_;
  std::string text_;            // not written yet
  std::vector<Event> pending_;  // work space
  bool first_ = true;
  bool finished_ = false;
};

// Records its own life as a complete event; with a null trace it does nothing and reads no clock.
class TraceScope {
 public:
  TraceScope(Trace* trace, const Clock& clock, TraceTrack track, std::string_view name)
      : trace_(trace), clock_(clock), track_(track), name_(name) {
    if (trace_ != nullptr) start_ = clock_.now();
  }
  ~TraceScope() {
    if (trace_ != nullptr) trace_->complete(track_, name_, start_, clock_.now());
  }
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

 private:
  Trace* trace_;
  const Clock& clock_;
  TraceTrack track_;
  std::string_view name_;
  TimePoint start_{};
};

}  // namespace gimbal
