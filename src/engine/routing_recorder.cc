#include "engine/routing_recorder.h"

#include <cerrno>

#include "base/log.h"

namespace gimbal::engine {

Result<std::unique_ptr<RoutingRecorder>> RoutingRecorder::open(
    const std::string& path, const sched::RoutingRecordHeader& header) {
  std::unique_ptr<RoutingRecorder> recorder(
      new RoutingRecorder(path, static_cast<std::size_t>(header.k)));
  recorder->file_.open(path, std::ios::binary | std::ios::trunc);
  if (!recorder->file_) return io_error(path, errno);
  recorder->writer_.emplace(recorder->file_, header);
  return recorder;
}

RoutingRecorder::~RoutingRecorder() {
  if (!writer_) return;
  writer_.reset();
  file_.flush();
  if (!file_) log_error("the routing record {} could not be written to its end", path_);
}

void RoutingRecorder::add(Rank source, LayerIndex layer, std::span<const Rows> rows) {
  const std::lock_guard lock(mutex_);
  for (const Rows& each : rows) {
    for (std::size_t row = 0; row * k_ < each.experts.size(); ++row) {
      writer_->add(each.request, each.position + static_cast<std::uint32_t>(row), source, layer,
                   each.experts.subspan(row * k_, k_));
    }
  }
}

}  // namespace gimbal::engine
