#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "cluster/gang_rank.h"
#include "engine/expert_group.h"
#include "engine/gang_driver.h"
#include "engine/group_port.h"
#include "engine/model_executor.h"
#include "kernels/kernel_context.h"
#include "sched/event.h"

namespace gimbal::engine {

// An engine's place in a group of ranks that share experts.
struct GroupSeat {
  ExpertGroup& group;
  GangDriver& gang;
  Rank rank;
};

// What an engine's thread does as a rank of a group, beside driving its scheduler: it tells the
// gang of intents and ends, takes the answers, and runs steps without sequences where the pace asks
// for them.
//
// One thread: the engine's. The seat's group and gang must outlive it.
class RankMember {
 public:
  RankMember(const GroupSeat& seat, const kernels::KernelContext& context);
  ~RankMember();
  RankMember(const RankMember&) = delete;
  RankMember& operator=(const RankMember&) = delete;

  [[nodiscard]] GroupPort& port() { return port_; }
  [[nodiscard]] const GroupPlace& place() const { return place_; }
  // From now on answers are taken. `dummy_page`: of the executor's KV, used by no sequence.
  void join(ModelExecutor& executor, PageId dummy_page);

  // Turns what the gang has answered into events of the scheduler; may start a dummy step.
  void take_answers(std::vector<sched::Event>& events);
  // Removes what concerns a dummy step from the executor's events.
  void take_dummy_events(std::vector<sched::Event>& events);
  // Passes on what the scheduler says of steps.
  void tell(const sched::Outputs& said);

  // Before a rest: carries out what is due. How long to rest at most, if not for ever.
  [[nodiscard]] std::optional<Duration> keep_time();

  // See ExpertGroup.
  [[nodiscard]] bool broken() const { return seat_.group.broken(); }
  // A rank, this one or another, is gone: nobody waits for it any more.
  void retire(Rank rank);

 private:
  void follow(const cluster::GangAnswer& answer, std::vector<sched::Event>& events);
  void carry_out();
  void tell_of_late();

  GroupSeat seat_;
  GroupPort port_;
  GroupPlace place_;
  ModelExecutor* executor_ = nullptr;
  PageId dummy_page_;
  std::mutex mutex_;
  std::vector<cluster::GangAnswer> answers_;  // guarded by mutex_
  std::atomic<bool> answered_{false};
  std::vector<cluster::GangAnswer> taken_;
  cluster::GangRank protocol_;
  cluster::GangOrders orders_;
};

}  // namespace gimbal::engine
