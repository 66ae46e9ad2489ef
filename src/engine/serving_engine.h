#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "base/handover.h"
#include "base/published.h"
#include "base/result.h"
#include "base/thread_pool.h"
#include "cluster/engine.h"
#include "comm/in_process/doorbell.h"
#include "engine/life_signs.h"
#include "engine/life_watch.h"
#include "engine/model_executor.h"
#include "engine/rank_member.h"
#include "engine/request_spans.h"
#include "engine/routing_recorder.h"
#include "engine/serving_engine_options.h"
#include "kernels/isa.h"
#include "model/forward.h"
#include "model/kv_storage.h"
#include "sched/event_recorder.h"
#include "sched/request_check.h"
#include "sched/step_loop.h"

namespace gimbal::engine {

// An engine in this process: one thread that drives a scheduler (sched::StepLoop) and the executor
// of a model. Between any two stages it looks at its inbox, so a cancelled request leaves within
// one stage. Thread-safe, as cluster::Engine is. Outputs go to `sink` on the engine's thread.
class ServingEngine final : public cluster::Engine, private Interrupt {
 public:
  // Starts the thread. References must outlive the engine. Errors: options out of range, or a
  // KV cache too small for one request of max_model_len; they name the option.
  [[nodiscard]] static Result<std::unique_ptr<ServingEngine>> start(
      const model::Model& model, ServingEngineOptions options, ThreadPool& pool,
      cluster::TokenSink& sink, const GroupSeat* seat = nullptr);
  ~ServingEngine() override;  // ends every request with kCancelled

  Result<void> submit(std::vector<sched::Request> group) override;
  void cancel(RequestId request) override;
  [[nodiscard]] cluster::EngineSnapshot snapshot() const override;
  [[nodiscard]] cluster::ExpertWork expert_work() const override {
    return executor_.experts().work();
  }
  [[nodiscard]] const cluster::EngineLimits& limits() const override { return limits_; }
  [[nodiscard]] bool healthy(std::string* why) const override;
  // The others have given it up, because its thread gives no sign of life. It may hang for ever,
  // and its requests with it.
  [[nodiscard]] bool declared_dead() const;

  // What submit() would say of a request's own fields.
  [[nodiscard]] Result<void> check(const sched::Request& request) const {
    return sched::check_request(request, limits_.max_model_len, limits_.vocab_size);
  }
  // Moves the changes of the prefix cache since the last call, at least those up to the newest
  // snapshot, to the end of `events`; with scheduler.record_prefix_events. Call now and then: they
  // are kept until then. One thread at a time; the engine's never waits for it.
  void take_prefix_events(std::vector<kv::PrefixEvent>& events);

  // Accepts nothing from now on; what was accepted goes on.
  void drain();
  // No request is queued or runs.
  [[nodiscard]] bool idle() const;
  [[nodiscard]] const ServingEngineOptions& options() const { return options_; }

 private:
  ServingEngine(const model::Model& model, ServingEngineOptions options, ThreadPool& pool,
                cluster::TokenSink& sink, const GroupSeat* seat);

  [[nodiscard]] kernels::KernelContext context();
  void observe();
  void push(sched::Event event);
  void work();
  void serve();
  // Moves the inbox to `events`. False: the engine stops.
  bool take_inbox(std::vector<sched::Event>& events);
  // Shows that the thread lives, and looks whether the others do. Throws when it was declared dead.
  void look_after_life();
  // The same within a stage, and runs experts for others (an Interrupt of the pool).
  void between_tasks() override;
  void look_out();
  // Nobody hears of this engine any more, or of a rank that it cannot do without.
  [[nodiscard]] bool given_up() const;
  void retire(int place);
  // Waits for the bell, for no longer than something is due by itself.
  void rest(std::uint32_t rung, Progress progress);
  void note_live(std::span<const sched::Event> events);
  void handle(std::vector<sched::Event>& events);
  void publish();
  void fail_all(sched::FinishReason reason, const std::string& why);

  ServingEngineOptions options_;
  ThreadPool& pool_;
  cluster::TokenSink& sink_;
  cluster::EngineLimits limits_;
  SteadyClock clock_;

  LifeSigns own_life_{1};
  LifeSigns& life_;
  const int place_;
  comm::Doorbell& bell_;  // rung for whatever the thread is to look at

  // The engine thread's own.
  LifeWatch watch_;
  std::exception_ptr thrown_;           // between tasks, where nothing may be thrown
  std::unique_ptr<RankMember> member_;  // in a group
  model::KvStorage kv_;
  ModelExecutor executor_;
  std::ofstream record_;
  std::optional<sched::EventRecorder> recorder_;
  std::unique_ptr<sched::StepLoop> loop_;
  std::unordered_set<RequestId> live_;
  std::optional<RequestSpans> spans_;
  std::vector<cluster::TokenOutput> outputs_;

  // The inbox.
  mutable std::mutex inbox_mutex_;
  std::vector<sched::Event> inbox_;
  std::int64_t inbox_prompt_tokens_ = 0;
  std::int64_t taken_prompt_tokens_ = 0;  // out of the inbox, not in a published snapshot yet
  bool stopping_ = false;
  bool draining_ = false;
  std::string failure_;  // not empty: the thread has ended, and why
  std::atomic<bool> inbox_pending_{false};
  std::atomic<std::int64_t> accepted_{0};  // requests that have not ended
  std::atomic<bool> ended_{false};         // all requests have, and there will be no more
  // The queue's bound as the scheduler has it now: it follows the measured prefill rate.
  std::atomic<std::int64_t> max_waiting_prefill_tokens_{0};

  Published<cluster::EngineSnapshot> snapshot_;
  std::uint64_t snapshots_ = 0;  // published; the engine thread's own
  Handover<kv::PrefixEvent> prefix_events_;

  std::thread thread_;
};

}  // namespace gimbal::engine
