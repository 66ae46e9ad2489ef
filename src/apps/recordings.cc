#include "apps/recordings.h"

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <span>
#include <utility>

#include "base/log.h"
#include "base/thread_name.h"
#include "checkpoint/fingerprint.h"

namespace gimbal::apps {
namespace {

// How often what was drawn is written to the disk.
constexpr auto kFlushInterval = std::chrono::milliseconds(200);

}  // namespace

Result<void> Recordings::open_routing(const ParallelFlags& flags, const ModelFlags& model_flags,
                                      const model::Model& model) {
  if (flags.routing_path.empty()) return {};
  const model_config::ModelConfig& config = model.config();
  if (config.moe_layers() == 0) {
    return invalid_argument("--record-routing: the model has no experts", "record-routing");
  }
  GIMBAL_ASSIGN_OR_RETURN(const std::uint64_t hash, checkpoint::fingerprint(model_flags.model_dir));
  auto routing = engine::RoutingRecorder::open(flags.routing_path, {.model_hash = hash,
                                                                    .layers = config.num_layers(),
                                                                    .experts = config.experts,
                                                                    .k = config.experts_per_token});
  if (!routing.ok()) return routing.error().within("--record-routing");
  routing_ = std::move(routing).value();
  return {};
}

Result<std::unique_ptr<Recordings>> Recordings::open(const ParallelFlags& flags, TimePoint origin) {
  std::unique_ptr<Recordings> recordings(new Recordings());
  auto decisions = engine::DecisionRecorder::open(flags.dispatch.decisions_path, kMostOrders);
  if (!decisions.ok()) return decisions.error().within("--decisions");
  recordings->decisions_ = std::move(decisions).value();
  if (flags.trace_path.empty()) return recordings;
  recordings->trace_path_ = flags.trace_path;
  recordings->trace_file_.open(flags.trace_path, std::ios::trunc);
  if (!recordings->trace_file_) return io_error("--trace-out " + flags.trace_path, errno);
  recordings->trace_ = std::make_unique<Trace>(
      recordings->trace_file_,
      TraceOptions{.max_events = static_cast<std::size_t>(flags.trace_events), .origin = origin});
  recordings->flusher_ = std::jthread(
      [raw = recordings.get()](std::stop_token stop) { raw->flush_now_and_then(std::move(stop)); });
  return recordings;
}

Recordings::~Recordings() {
  if (trace_ == nullptr) return;
  flusher_.request_stop();
  flusher_.join();
  const std::uint64_t dropped = trace_->dropped();
  if (const auto finished = trace_->finish(); !finished.ok()) {
    log_error("the trace {} could not be written to its end", trace_path_);
  } else if (dropped > 0) {
    log_warning("the trace {} is full: {} later events are not in it (--trace-max-events)",
                trace_path_, dropped);
  }
}

void Recordings::flush() {
  if (trace_) trace_->flush();
  decisions_->flush();
}

void Recordings::flush_now_and_then(std::stop_token stop) {
  name_thread("trace");
  std::mutex mutex;
  std::condition_variable_any stopped;
  std::unique_lock lock(mutex);
  while (!stop.stop_requested()) {
    stopped.wait_for(lock, stop, kFlushInterval, [] { return false; });
    trace_->flush();
  }
}

void Recordings::give_to(engine::ServingEngineOptions& engine) {
  engine.trace = trace_.get();
  engine.routing = routing_.get();
  engine.decisions = decisions_.get();
}

void Recordings::give_to(sim::SimulatedClusterOptions& cluster, const cluster::OrderRule& order) {
  cluster.trace = trace_.get();
  cluster.on_decision = [this](const cluster::DecisionRecord& record) {
    decisions_->note_dispatch(record);
  };
  cluster.on_orders = [this, order](std::optional<EngineId> engine, TimePoint time,
                                    std::span<const sched::OrderDecision> decisions) {
    decisions_->note_orders(engine, time, order, decisions);
  };
}

}  // namespace gimbal::apps
