#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "base/ids.h"
#include "base/result.h"
#include "sched/routing_record.h"

namespace gimbal::engine {

// The routing record of all engines of a process (`--record-routing`): one file, written a batch
// and layer at a time. Thread-safe.
class RoutingRecorder {
 public:
  // kIo: the file cannot be made.
  [[nodiscard]] static Result<std::unique_ptr<RoutingRecorder>> open(
      const std::string& path, const sched::RoutingRecordHeader& header);
  ~RoutingRecorder();  // says in the log if something could not be written

  // Rows of one sequence: `experts` are k ids each, as the router writes them.
  struct Rows {
    RequestId request;
    std::uint32_t position = 0;  // of the first row; the others follow
    std::span<const std::int32_t> experts;
  };
  void add(Rank source, LayerIndex layer, std::span<const Rows> rows);

 private:
  RoutingRecorder(std::string path, std::size_t k) : path_(std::move(path)), k_(k) {}

  std::string path_;
  std::size_t k_;
  std::mutex mutex_;  // guards the rest
  std::ofstream file_;
  std::optional<sched::RoutingRecordWriter> writer_;
};

}  // namespace gimbal::engine
