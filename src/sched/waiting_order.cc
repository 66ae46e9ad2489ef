#include "sched/waiting_order.h"

namespace gimbal::sched {

WaitingOrder::WaitingOrder(const StepLoopOptions& options, const Collaborators& collaborators)
    : options_(options),
      order_(collaborators.order),
      table_(collaborators.table),
      prefixes_(collaborators.prefixes),
      queues_(collaborators.order) {
  if (options_.order != "sjf-aging" || !options_.order_options.aging_auto) return;
  tuners_.assign(2, AgingTuner(options_.order_options.aging));
}

AgingTuner* WaitingOrder::tuner(RequestClass request_class) {
  return tuners_.empty() ? nullptr : &tuners_[static_cast<std::size_t>(request_class)];
}

double WaitingOrder::aging(RequestClass request_class) const {
  return tuners_.empty() ? options_.order_options.aging
                         : tuners_[static_cast<std::size_t>(request_class)].aging();
}

void WaitingOrder::enqueue(Sequence& sequence, TimePoint now, const policy::PrefillCost& cost,
                           const Sequence* ahead) {
  now_ = now;
  median_wait_ = queues_.median_wait();
  sequence.job_tokens = prefixes_.missing_prefill(sequence);
  sequence.job_cost = cost;
  sequence.job_ms = cost.ms(sequence.job_tokens);
  push(sequence, OrderReason::kArrived, ahead);
  if (AgingTuner* tuner = this->tuner(sequence.request.request_class)) {
    tuner->arrived(sequence.request.id, now, sequence.job_tokens);
  }
}

// Into its queue, with the rank that its frozen job gives it.
void WaitingOrder::push(Sequence& sequence, OrderReason reason, const Sequence* ahead) {
  sequence.queued_prefill = prefixes_.missing_prefill(sequence, ahead);
  sequence.key = order_.key(ordered(sequence));
  note_order(sequence, reason);
  queues_.push(sequence);
}

// Of a sequence that is not in its queue.
void WaitingOrder::note_order(Sequence& sequence, OrderReason reason) {
  if (!options_.report_order) return;
  const RequestClass request_class = sequence.request.request_class;
  sequence.told_key = sequence.key;
  decisions_.push_back({.request = sequence.request.id,
                        .reason = reason,
                        .best_effort = sequence.best_effort(),
                        .job_tokens = sequence.job_tokens,
                        .cost = sequence.job_cost,
                        .ordered = ordered(sequence),
                        .key = sequence.key,
                        .waiting_requests = queues_.size(request_class),
                        .waiting_tokens = queues_.prefill_tokens(request_class),
                        .waited = now_ - sequence.arrival,
                        .median_wait = median_wait_});
}

void WaitingOrder::take_to_admit(Sequence& sequence) {
  queues_.erase(sequence);
  if (options_.report_order) note_move(sequence);
}

// Of a sequence that has been taken from its queue to be admitted: if it was not where it was said.
void WaitingOrder::note_move(Sequence& sequence) {
  const auto promote_after = order_.promote_after(median_wait_);
  if (promote_after && now_ - sequence.arrival > *promote_after) {
    note_order(sequence, OrderReason::kPromoted);
  } else if (sequence.key != sequence.told_key) {
    note_order(sequence, OrderReason::kRetuned);
  }
}

void WaitingOrder::take_decisions(std::vector<OrderDecision>& to) {
  to.insert(to.end(), decisions_.begin(), decisions_.end());
  decisions_.clear();
}

policy::OrderedRequest WaitingOrder::ordered(const Sequence& sequence) const {
  return {.arrival = sequence.arrival,
          .job_ms = sequence.job_ms,
          .priority = sequence.request.priority,
          .aging = aging(sequence.request.request_class)};
}

void WaitingOrder::begin_step(TimePoint now) {
  now_ = now;
  median_wait_ = queues_.median_wait();
  if (tuners_.empty()) return;
  for (const RequestClass request_class :
       {RequestClass::kLatencySensitive, RequestClass::kBestEffort}) {
    if (!tuner(request_class)->tune(now)) continue;
    queues_.reorder(request_class, [&](RequestId id) {
      Sequence& sequence = table_.at(id);
      sequence.key = order_.key(ordered(sequence));
      return sequence.key;
    });
  }
}

void WaitingOrder::note_admitted(const Sequence& sequence, TimePoint now) {
  queues_.note_wait(now - sequence.arrival);
  if (AgingTuner* tuner = this->tuner(sequence.request.request_class)) {
    tuner->admitted(sequence.request.id, now);
  }
}

void WaitingOrder::note_computed(const Sequence& sequence, int computed, TimePoint now) {
  if (AgingTuner* tuner = this->tuner(sequence.request.request_class)) {
    const int hit_when_queued = sequence.prompt_tokens - sequence.job_tokens;
    tuner->progressed(sequence.request.id, now, computed - hit_when_queued);
  }
}

void WaitingOrder::note_end(const Sequence& sequence, TimePoint now) {
  if (AgingTuner* tuner = this->tuner(sequence.request.request_class)) {
    tuner->ended(sequence.request.id, now);
  }
}

}  // namespace gimbal::sched
