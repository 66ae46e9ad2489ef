#pragma once

#include <cstdint>
#include <span>

#include "engine/expert_port.h"
#include "engine/expert_service.h"

namespace gimbal::engine {

// The port of an engine that runs its own experts: nothing is sent, and a policy may stop a batch
// between two experts. One thread: the executor's. Service and pool must outlive it.
class LocalExperts final : public ExpertPort {
 public:
  LocalExperts(ExpertService& service, const kernels::KernelContext& context)
      : service_(service), context_(context) {}

  void post(const sched::ExpertPost& post) override { service_.post(post); }
  void cancel(sched::SourceSlot slot, std::uint32_t epoch) override {
    service_.cancel(rank(), slot, epoch);
  }
  [[nodiscard]] std::span<const sched::ExpertEntry> advance() override {
    const auto entries = service_.run(context_);
    progress_ = !entries.empty();
    const ExpertService::Counters& counters = service_.counters();
    totals_ = {.rows = counters.rows,
               .distinct_experts = static_cast<double>(counters.distinct_experts),
               .service = counters.busy,
               .serving = counters.busy};
    return entries;
  }
  [[nodiscard]] bool progress() const override { return progress_; }
  [[nodiscard]] bool may_stand_inside() const override { return true; }
  [[nodiscard]] Rank rank() const override { return Rank{0}; }
  [[nodiscard]] std::uint32_t map_version() const override { return 0; }
  void leave(std::uint64_t, std::uint64_t) override {}
  [[nodiscard]] const Totals& totals() const override { return totals_; }
  [[nodiscard]] cluster::ExpertWork work() const override {
    cluster::ExpertWork work(service_.layers(), 1);
    service_.report_work(rank(), rank(), work);
    return work;
  }

 private:
  ExpertService& service_;
  kernels::KernelContext context_;
  Totals totals_;
  bool progress_ = false;
};

}  // namespace gimbal::engine
