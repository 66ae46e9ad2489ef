#include "sim/simulated_engine.h"

#include <fmt/format.h>

#include <utility>
#include <variant>

#include "base/check.h"
#include "cluster/engine_snapshot.h"

namespace gimbal::sim {

SimulatedEngine::SimulatedEngine(const SimulatedEngineOptions& options,
                                 const Collaborators& collaborators)
    : options_(options),
      with_(collaborators),
      executor_(
          {.queue = with_.queue, .runner = with_.runner, .costs = with_.costs, .owner = *this},
          options.rank, options.scheduler.vocab_size),
      changed_(with_.queue.now()) {
  if (with_.trace == nullptr) return;
  const std::int32_t process =
      with_.trace->add_process(with_.trace->intern(fmt::format("engine {}", options.id.value())));
  executor_.set_trace(with_.trace, with_.trace->add_track(process, "steps"));
}

Result<std::unique_ptr<SimulatedEngine>> SimulatedEngine::make(
    const SimulatedEngineOptions& options, const Collaborators& collaborators) {
  std::unique_ptr<SimulatedEngine> engine(new SimulatedEngine(options, collaborators));
  GIMBAL_ASSIGN_OR_RETURN(engine->loop_, sched::StepLoop::make(options.scheduler, engine->executor_,
                                                               collaborators.recorder));
  return engine;
}

void SimulatedEngine::submit(std::vector<sched::Request> group) {
  GIMBAL_CHECK(accepts());
  handle(sched::SubmitGroup{std::move(group)});
}

void SimulatedEngine::cancel(RequestId request) {
  handle(sched::CancelRequest{request});
}

void SimulatedEngine::start_step(const sched::StartStep& start) {
  handle(start);
}

void SimulatedEngine::fail() {
  failed_ = true;
  executor_.hang();
}

void SimulatedEngine::handle(sched::Event event) {
  if (failed_) return;
  const bool stage_only = std::holds_alternative<sched::StageReached>(event);
  sched::Outputs& said = loop_->on(with_.queue.now(), std::move(event));
  if (!stage_only || !said.news.empty()) {
    ++version_;
    changed_ = with_.queue.now();
  }
  with_.group.on_steps(*this, said);
  with_.cluster.on_outputs(*this, said);
  with_.group.on_settled();
}

const cluster::EngineSnapshot& SimulatedEngine::snapshot() {
  if (snapshot_.sequence != version_) {
    snapshot_ = cluster::snapshot_of(
        *loop_,
        {.sequence = version_,
         .taken = changed_,
         .expert_rows = executor_.totals().rows *
                        static_cast<std::uint64_t>(options_.scheduler.experts.choices_per_row),
         .distinct_experts = static_cast<std::uint64_t>(executor_.totals().distinct)});
  }
  return snapshot_;
}

}  // namespace gimbal::sim
