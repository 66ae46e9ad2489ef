#include "server/token_router.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace gimbal::server {

TokenRouter::TokenRouter(int loops, const Clock& clock) : clock_(clock) {
  GIMBAL_CHECK(loops > 0);
  for (int loop = 0; loop < loops; ++loop)
    loops_.push_back(std::make_unique<Loop>());
}

void TokenRouter::on_outputs(std::span<cluster::TokenOutput> outputs) {
  for (std::size_t index = 0; index < loops_.size(); ++index) {
    Loop& loop = *loops_[index];
    const std::lock_guard lock(loop.mutex);
    if (!loop.wake) continue;
    for (cluster::TokenOutput& output : outputs) {
      if (output.request.value() % loops_.size() == index) {
        loop.arrived.push_back(std::move(output));
      }
    }
    if (!loop.arrived.empty() && !std::exchange(loop.woken, true)) loop.wake();
  }
}

void TokenRouter::set_wake(int loop, std::function<void()> wake) {
  Loop& home = *loops_[static_cast<std::size_t>(loop)];
  const std::lock_guard lock(home.mutex);
  home.wake = std::move(wake);
}

RequestId TokenRouter::open(int loop, TokenReceiver& receiver, int choice) {
  Loop& home = *loops_[static_cast<std::size_t>(loop)];
  const RequestId id(home.next++ * loops_.size() + static_cast<std::uint64_t>(loop));
  home.routes.emplace(id, Route{&receiver, choice});
  return id;
}

void TokenRouter::close(RequestId id) {
  loop_of(id).routes.erase(id);
}

void TokenRouter::deliver(int loop) {
  Loop& home = *loops_[static_cast<std::size_t>(loop)];
  {
    const std::lock_guard lock(home.mutex);
    home.taken.swap(home.arrived);
    home.woken = false;
  }
  const TimePoint now = clock_.now();
  for (cluster::TokenOutput& output : home.taken) {
    const auto found = home.routes.find(output.request);
    if (found == home.routes.end()) continue;
    const Route route = found->second;
    route.receiver->on_output(route.choice, output, now);
    home.touched.push_back(route.receiver);
  }
  home.taken.clear();
  std::sort(home.touched.begin(), home.touched.end());
  home.touched.erase(std::unique(home.touched.begin(), home.touched.end()), home.touched.end());
  for (TokenReceiver* receiver : home.touched)
    receiver->on_delivered();
  home.touched.clear();
}

}  // namespace gimbal::server
