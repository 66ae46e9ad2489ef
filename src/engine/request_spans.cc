#include "engine/request_spans.h"

#include <variant>

namespace gimbal::engine {
namespace {

constexpr std::string_view kCategory = "request";
constexpr std::string_view kQueued = "queued";
constexpr std::string_view kPrefill = "prefill";
constexpr std::string_view kDecode = "decode";

}  // namespace

void RequestSpans::arrived(std::span<const sched::Event> events, TimePoint now) {
  for (const sched::Event& event : events) {
    const auto* submitted = std::get_if<sched::SubmitGroup>(&event);
    if (submitted == nullptr) continue;
    for (const sched::Request& request : submitted->requests)
      begin(request.id, kQueued, now);
  }
}

void RequestSpans::told(std::span<const cluster::TokenOutput> outputs, TimePoint now) {
  for (const cluster::TokenOutput& output : outputs) {
    const auto found = phases_.find(output.request);
    if (found == phases_.end()) continue;
    if (output.finish) {
      end(output.request, now);
      phases_.erase(output.request);
    } else if (output.token) {
      change(output.request, kDecode, now);
    }
  }
}

void RequestSpans::evicted(std::span<const RequestId> requests, TimePoint now) {
  for (const RequestId request : requests)
    change(request, kQueued, now);
}

void RequestSpans::admitted(std::span<const RequestId> requests, TimePoint now) {
  for (const RequestId request : requests)
    change(request, kPrefill, now);
}

void RequestSpans::end_all(TimePoint now) {
  for (const auto& [request, phase] : phases_)
    trace_.end_span(track_, kCategory, request.value(), phase, now);
  phases_.clear();
}

void RequestSpans::change(RequestId request, std::string_view phase, TimePoint now) {
  const auto found = phases_.find(request);
  if (found == phases_.end() || found->second == phase) return;
  end(request, now);
  begin(request, phase, now);
}

void RequestSpans::begin(RequestId request, std::string_view phase, TimePoint now) {
  phases_[request] = phase;
  trace_.begin_span(track_, kCategory, request.value(), phase, now);
}

void RequestSpans::end(RequestId request, TimePoint now) {
  trace_.end_span(track_, kCategory, request.value(), phases_[request], now);
}

}  // namespace gimbal::engine
