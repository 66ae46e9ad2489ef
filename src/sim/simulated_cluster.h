#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "sim/event_queue.h"
#include "sim/request_log.h"
#include "sim/serving_cluster.h"
#include "workload/request_spec.h"

namespace gimbal::sim {

// A workload on a ServingCluster: its requests arrive when it says, and what became of them is in
// a log. Made for one run. One thread.
class SimulatedCluster final : private RequestBook, private EventTarget {
 public:
  // Errors: as ServingCluster::make. The workload, the hardware and the recorders must outlive it.
  [[nodiscard]] static Result<std::unique_ptr<SimulatedCluster>> make(
      SimulatedClusterOptions options, const workload::Workload& workload);

  // Runs until every request has ended, or nothing happens any more. `progress` is called now and
  // then with the number of ended requests, and ends the run when it returns false.
  void run(const std::function<bool(std::size_t)>& progress = {});

  [[nodiscard]] const RequestLog& log() const { return log_; }
  [[nodiscard]] TimePoint now() const { return serving_->now(); }
  [[nodiscard]] const EventQueue& queue() const { return serving_->queue(); }
  [[nodiscard]] const cluster::Dispatcher& dispatcher() const { return serving_->dispatcher(); }
  [[nodiscard]] int size() const { return serving_->size(); }
  [[nodiscard]] SimulatedEngine& engine(int index) { return serving_->engine(index); }
  [[nodiscard]] std::span<const std::unique_ptr<SimulatedGroup>> groups() const {
    return serving_->groups();
  }

 private:
  explicit SimulatedCluster(const workload::Workload& workload)
      : workload_(workload), log_(workload) {}
  void on_event(std::uint64_t what) override;
  void submit(std::size_t index);

  // By the id of a request: its index in the workload, from 1.
  [[nodiscard]] int topic_of(RequestId request) const override {
    return topics_[index_of(request)];
  }
  void on_sent(RequestId request, EngineId engine) override {
    log_.at(index_of(request)).engine = engine.value();
  }
  bool on_news(sched::TokenNews& news) override;
  void on_end(RequestId request, RequestEnd how, const Error& why) override;
  [[nodiscard]] sched::Request request(RequestId request) const override;
  [[nodiscard]] TimePoint arrival(RequestId request) const override;
  [[nodiscard]] bool told(RequestId request) const override;
  [[nodiscard]] std::vector<RequestId> requests_at(EngineId engine) const override;
  [[nodiscard]] static std::size_t index_of(RequestId request) {
    return static_cast<std::size_t>(request.value()) - 1;
  }
  [[nodiscard]] static RequestId id_of(std::size_t index) {
    return RequestId{static_cast<RequestId::rep>(index + 1)};
  }

  const workload::Workload& workload_;
  RequestLog log_;
  std::vector<std::uint8_t> topics_;  // by request
  std::size_t arrived_ = 0;
  std::unique_ptr<ServingCluster> serving_;
};

}  // namespace gimbal::sim
