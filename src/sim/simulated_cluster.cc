#include "sim/simulated_cluster.h"

#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "workload/prompt_tokens.h"

namespace gimbal::sim {
namespace {

constexpr std::uint64_t kEventsBetween = 1 << 14;  // calls of `progress`

// The topic of a prompt: the first that a part of it has.
int topic_of(const workload::RequestSpec& request, int topics) {
  for (const workload::PromptPart& part : request.prompt) {
    if (part.topic != workload::kAnyTopic) return part.topic % topics;
  }
  return 0;
}

}  // namespace

Result<std::unique_ptr<SimulatedCluster>> SimulatedCluster::make(
    SimulatedClusterOptions options, const workload::Workload& workload) {
  std::unique_ptr<SimulatedCluster> cluster(new SimulatedCluster(workload));
  GIMBAL_CHECK(!options.groups.empty());
  const int topics = options.groups.front().hardware->loads.topics();
  cluster->topics_.reserve(workload.requests.size());
  for (const workload::RequestSpec& request : workload.requests)
    cluster->topics_.push_back(static_cast<std::uint8_t>(sim::topic_of(request, topics)));
  GIMBAL_ASSIGN_OR_RETURN(cluster->serving_, ServingCluster::make(std::move(options), *cluster));
  return cluster;
}

void SimulatedCluster::run(const std::function<bool(std::size_t)>& progress) {
  EventQueue& queue = serving_->queue();
  serving_->start();
  if (!workload_.requests.empty()) {
    queue.at(TimePoint{workload_.requests.front().arrival}, *this, 0);
  }
  while (log_.ended() < log_.size() && queue.run_one()) {
    if (progress && queue.handled() % kEventsBetween == 0 && !progress(log_.ended())) return;
  }
  for (std::size_t i = 0; i < log_.size(); ++i) {
    if (log_.at(i).end == RequestEnd::kNone) log_.note_end(i, RequestEnd::kFailed);
  }
}

// A request arrives.
void SimulatedCluster::on_event(std::uint64_t what) {
  const auto index = static_cast<std::size_t>(what);
  arrived_ = index + 1;
  if (arrived_ < workload_.requests.size()) {
    serving_->queue().at(TimePoint{workload_.requests[arrived_].arrival}, *this, arrived_);
  }
  submit(index);
}

void SimulatedCluster::submit(std::size_t index) {
  const workload::RequestSpec& spec = workload_.requests[index];
  if (spec.prompt_tokens() + spec.output_tokens > serving_->max_model_len()) {
    return log_.note_end(index, RequestEnd::kTooLong);
  }
  std::vector<sched::Request> group;
  group.push_back(request(id_of(index)));
  if (spec.source) {  // fixed to an engine
    const EngineId own{*spec.source % size()};
    if (!serving_->submit_to(own, std::move(group))) log_.note_end(index, RequestEnd::kFailed);
    return;
  }
  if (!serving_->submit(std::move(group)).ok()) log_.note_end(index, RequestEnd::kRefused);
}

bool SimulatedCluster::on_news(sched::TokenNews& news) {
  const std::size_t index = index_of(news.request);
  RequestEntry& entry = log_.at(index);
  const bool first = entry.output_tokens == 0;
  if (news.token) log_.note_token(index, now().time_since_epoch());
  entry.cached_tokens = news.cached_tokens;
  if (!news.finish) return first;
  const bool whole =
      *news.finish == sched::FinishReason::kLength || *news.finish == sched::FinishReason::kStop;
  log_.note_end(index, whole                                             ? RequestEnd::kCompleted
                       : *news.finish == sched::FinishReason::kCancelled ? RequestEnd::kCancelled
                                                                         : RequestEnd::kFailed);
  return first;
}

void SimulatedCluster::on_end(RequestId request, RequestEnd how, const Error& /*why*/) {
  log_.note_end(index_of(request), how);
}

sched::Request SimulatedCluster::request(RequestId id) const {
  const workload::RequestSpec& spec = workload_.requests[index_of(id)];
  const SimulatedClusterOptions& options = serving_->options();
  sched::Request request;
  request.id = id;
  request.prompt = workload::prompt_tokens(spec, {.vocab_size = serving_->vocab_size(),
                                                  .first = options.first_token,
                                                  .topics = options.topics});
  request.max_tokens = static_cast<int>(spec.output_tokens);
  if (spec.traffic_class == workload::TrafficClass::kBestEffort)
    request.request_class = sched::RequestClass::kBestEffort;
  if (!spec.user.empty()) request.user_key = hash_bytes(spec.user);
  return request;
}

TimePoint SimulatedCluster::arrival(RequestId request) const {
  return TimePoint{log_.entries()[index_of(request)].arrival};
}

bool SimulatedCluster::told(RequestId request) const {
  return log_.entries()[index_of(request)].output_tokens > 0;
}

std::vector<RequestId> SimulatedCluster::requests_at(EngineId engine) const {
  std::vector<RequestId> found;
  for (std::size_t i = 0; i < log_.size(); ++i) {
    const RequestEntry& entry = log_.entries()[i];
    if (entry.end == RequestEnd::kNone && entry.engine == engine.value()) found.push_back(id_of(i));
  }
  return found;
}

}  // namespace gimbal::sim
