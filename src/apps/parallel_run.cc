#include "apps/parallel_run.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <numeric>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/random.h"

namespace gimbal::apps {
namespace {

// When what happened to each request. Thread-safe.
class Times final : public cluster::TokenSink {
 public:
  struct Request {
    bool is_long = false;
    int tokens = 0;
    TimePoint sent{};
    TimePoint first{};
    TimePoint last{};
    bool ended = false;
    bool failed = false;
  };

  void sent(RequestId id, bool is_long) {
    const std::lock_guard lock(mutex_);
    requests_[id] = {.is_long = is_long, .sent = clock_.now()};
  }

  void on_outputs(std::span<cluster::TokenOutput> outputs) override {
    {
      const std::lock_guard lock(mutex_);
      const TimePoint now = clock_.now();
      for (const cluster::TokenOutput& output : outputs) {
        Request& request = requests_[output.request];
        if (output.token) {
          if (request.tokens++ == 0) request.first = now;
          request.last = now;
        }
        if (!output.finish) continue;
        request.ended = true;
        request.failed = *output.finish == sched::FinishReason::kFailed;
        ++ended_;
      }
    }
    changed_.notify_all();
  }

  void wait_for(RequestId id) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return requests_[id].ended; });
  }
  void wait_for_all() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ended_ == requests_.size(); });
  }
  void wait_for_first_tokens() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      return std::all_of(requests_.begin(), requests_.end(),
                         [](const auto& each) { return each.second.tokens > 0; });
    });
  }
  [[nodiscard]] std::map<RequestId, Request> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  SteadyClock clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<RequestId, Request> requests_;
  std::size_t ended_ = 0;
};

// Sends the mix to the engines.
class Sender {
 public:
  Sender(engine::EngineFleet& fleet, Times& times, int vocab, const ParallelRunOptions& options)
      : fleet_(fleet), times_(times), vocab_(vocab), options_(options), rng_(options.seed) {}

  Result<void> run() {
    for (int engine = 0; engine < fleet_.size(); ++engine) {
      if (options_.mix == ParallelMix::kUneven && engine == 0) continue;
      GIMBAL_RETURN_IF_ERROR(send(engine, false, options_.decodes));
    }
    if (options_.mix != ParallelMix::kDecode) {
      times_.wait_for_first_tokens();
      for (int i = 0; i < options_.long_prompts; ++i) {
        const int engine = options_.mix == ParallelMix::kUneven ? 0 : i % fleet_.size();
        GIMBAL_RETURN_IF_ERROR(send(engine, true, 1));
        times_.wait_for(RequestId{last_});
      }
    }
    times_.wait_for_all();
    return {};
  }

 private:
  // All at once, so that how many of them the engine's first step finds is no matter of luck.
  Result<void> send(int engine, bool is_long, int count) {
    std::vector<sched::Request> requests;
    for (int i = 0; i < count; ++i) {
      requests.push_back(request(is_long));
      times_.sent(requests.back().id, is_long);
    }
    return fleet_.engine(engine).submit(std::move(requests));
  }

  sched::Request request(bool is_long) {
    sched::Request request{.id = RequestId{++last_},
                           .max_tokens = is_long ? options_.long_tokens : options_.decode_tokens};
    const int prompt = is_long ? options_.long_prompt : options_.decode_prompt;
    for (int i = 0; i < prompt; ++i)
      request.prompt.push_back(
          static_cast<TokenId>(rng_.below(static_cast<std::uint64_t>(vocab_))));
    request.sampling.ignore_eos = true;
    request.sampling.temperature = 0;
    return request;
  }

  engine::EngineFleet& fleet_;
  Times& times_;
  int vocab_;
  ParallelRunOptions options_;
  Rng rng_;
  std::uint64_t last_ = 0;
};

double mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

ParallelResult summarize(const std::map<RequestId, Times::Request>& requests,
                         const ParallelRunOptions& options) {
  ParallelResult result;
  TimePoint start = TimePoint::max();
  TimePoint end{};
  double tokens = 0;
  std::vector<double> ttft;
  std::vector<double> tpot;
  for (const auto& [id, request] : requests) {
    start = std::min(start, request.sent);
    end = std::max(end, request.last);
    tokens += request.tokens + (request.is_long ? options.long_prompt : options.decode_prompt);
    const bool judged = request.is_long || options.mix == ParallelMix::kDecode;
    if (judged) ttft.push_back(to_ms(request.first - request.sent));
    if (!request.is_long && request.tokens > 1) {
      tpot.push_back(to_ms(request.last - request.first) / (request.tokens - 1));
    }
  }
  result.seconds = to_ms(end - start) / 1000.0;
  result.tokens_per_second = tokens / result.seconds;
  result.mean_ttft_ms = mean(ttft);
  result.mean_tpot_ms = mean(tpot);
  return result;
}

void count_exchange(const engine::EngineFleet& fleet, ParallelResult& result) {
  double joins = 0;
  double steps = 0;
  double rows = 0;
  double experts = 0;
  for (int index = 0; index < fleet.size(); ++index)
    steps += static_cast<double>(fleet.engine(index).snapshot().steps);
  for (const engine::EngineFleet::Group& group : fleet.groups()) {
    const cluster::GangCounters counters = group.gang->counters();
    joins += static_cast<double>(counters.joins - counters.dummies);
    for (int rank = 0; rank < group.experts->ranks(); ++rank) {
      const engine::ExpertStation::Counters done = group.experts->station(Rank{rank}).counters();
      rows += static_cast<double>(done.rows);
      experts += static_cast<double>(done.distinct_experts);
    }
  }
  if (steps > 0) result.gang_share = joins / steps;
  if (experts > 0) result.rows_per_expert = rows / experts;
}

}  // namespace

Result<ParallelResult> run_parallel(const LoadedModel& loaded,
                                    const engine::EngineFleetOptions& fleet_options,
                                    const ParallelRunOptions& options) {
  Times times;
  const std::vector<cluster::TokenSink*> sinks(static_cast<std::size_t>(fleet_options.engines),
                                               &times);
  GIMBAL_ASSIGN_OR_RETURN(const auto fleet, engine::EngineFleet::start(*loaded.model, fleet_options,
                                                                       *loaded.pool, sinks));
  Sender sender(*fleet, times, loaded.model->config().vocab_size, options);
  GIMBAL_RETURN_IF_ERROR(sender.run());
  ParallelResult result = summarize(times.requests(), options);
  count_exchange(*fleet, result);
  return result;
}

}  // namespace gimbal::apps
