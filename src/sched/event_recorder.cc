#include "sched/event_recorder.h"

#include <ostream>

#include "sched/record_json.h"

namespace gimbal::sched {

void EventRecorder::header(const StepLoopOptions& options, int layers) {
  out_ << header_to_json({options, layers}) << '\n';
}

void EventRecorder::events(TimePoint now, std::span<const Event> events) {
  out_ << call_to_json(now, events) << '\n';
}

void EventRecorder::order(const OrderDecision& decision) {
  out_ << order_to_json(decision) << '\n';
}

void EventRecorder::plan(const StepPlan& plan) {
  out_ << plan_to_json(plan) << '\n';
}

void EventRecorder::intent(const policy::GangMember& intent) {
  out_ << Json{{"intent", Json::array({intent.decodes, intent.decode_context, intent.want,
                                       intent.most, intent.requests, intent.latency_sensitive})}}
       << '\n';
}

void EventRecorder::yielded(BatchId batch) {
  out_ << Json{{"yield", batch.value()}} << '\n';
}

void EventRecorder::dropped(BatchId batch, std::span<const RequestId> sequences) {
  Json requests = Json::array();
  for (const RequestId request : sequences)
    requests.push_back(request.value());
  out_ << Json{{"drop", batch.value()}, {"requests", std::move(requests)}} << '\n';
}

}  // namespace gimbal::sched
