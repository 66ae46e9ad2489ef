#include "engine/gang_driver.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace gimbal::engine {

Result<std::unique_ptr<GangDriver>> GangDriver::make(const GangDriverOptions& options,
                                                     const Clock& clock) {
  GIMBAL_ASSIGN_OR_RETURN(auto planner,
                          policy::make_gang_planner(options.planner, options.planner_options));
  std::unique_ptr<GangDriver> driver(new GangDriver(options, std::move(planner), clock));
  if (options.record_path.empty()) return driver;
  driver->record_.open(options.record_path, std::ios::trunc);
  if (!driver->record_) return io_error(options.record_path, errno);
  driver->recorder_.emplace(driver->record_)
      .header({options.coordinator, options.planner, options.planner_options});
  return driver;
}

GangDriver::GangDriver(const GangDriverOptions& options,
                       std::unique_ptr<policy::GangPlanner> planner, const Clock& clock)
    : options_(options),
      planner_(std::move(planner)),
      clock_(clock),
      coordinator_(options.coordinator, *planner_),
      receivers_(static_cast<std::size_t>(options.coordinator.ranks)) {}

void GangDriver::attach(Rank rank, Receiver receiver) {
  const std::lock_guard lock(mutex_);
  receivers_[static_cast<std::size_t>(rank.value())] = std::move(receiver);
}

void GangDriver::detach(Rank rank) {
  attach(rank, nullptr);
}

void GangDriver::tell(const cluster::GangEvent& event) {
  const std::lock_guard lock(mutex_);
  handle(event);
}

std::optional<Duration> GangDriver::keep_time() {
  const std::lock_guard lock(mutex_);
  if (wake_ && clock_.now() >= *wake_) {
    wake_.reset();
    handle(cluster::GangTimer{});
  }
  if (!wake_) return std::nullopt;
  return std::max(Duration::zero(), *wake_ - clock_.now());
}

cluster::GangCounters GangDriver::counters() const {
  const std::lock_guard lock(mutex_);
  return coordinator_.counters();
}

void GangDriver::handle(const cluster::GangEvent& event) {
  const TimePoint now = clock_.now();
  coordinator_.on(event, now, commands_);
  if (recorder_) recorder_->event(event, now, commands_);
  for (const cluster::GangCommand& command : commands_)
    std::visit([this](const auto& what) { carry_out(what); }, command);
}

void GangDriver::carry_out(const cluster::GangStart& command) {
  const Receiver& receiver = receivers_[static_cast<std::size_t>(command.rank.value())];
  if (receiver) receiver(cluster::answer_of(command, pace()));
}

void GangDriver::carry_out(const cluster::GangSolo& command) {
  const Receiver& receiver = receivers_[static_cast<std::size_t>(command.rank.value())];
  if (receiver) receiver(cluster::answer_of(command));
}

void GangDriver::carry_out(const cluster::GangWake& command) {
  wake_ = command.at;
}

}  // namespace gimbal::engine
