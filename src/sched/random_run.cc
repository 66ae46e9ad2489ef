#include "sched/random_run.h"

namespace gimbal::sched {

StepLoopOptions random_options(Rng& rng) {
  StepLoopOptions options;
  options.max_model_len = kRandomModelLen;
  options.vocab_size = kRandomVocab;
  options.page_tokens = static_cast<int>(rng.between(1, 5));
  const int least_pages = (kRandomModelLen + options.page_tokens - 1) / options.page_tokens;
  options.kv_pages =
      least_pages * static_cast<int>(rng.between(1, 4)) + static_cast<int>(rng.between(0, 5));
  options.max_num_seqs = static_cast<int>(rng.between(1, 12));
  options.max_num_batched_tokens =
      static_cast<int>(rng.below(2) == 0 ? rng.between(1, 6) : rng.between(7, 100));
  options.prefix_caching = rng.below(4) != 0;
  options.former_options.max_batch = static_cast<int>(rng.between(1, 8));
  if (rng.below(3) != 0) {
    options.former_options.prefill_floor = static_cast<int>(rng.between(1, 16));
  }
  if (rng.below(2) == 0) options.former_options.target_itl_ms = 0.002 + 0.1 * rng.uniform();
  options.former_options.drain_steps = static_cast<double>(rng.between(1, 8));
  if (rng.below(2) == 0) options.max_stage_ms = 0.001 + 0.05 * rng.uniform();
  options.order_options.aging_auto = rng.below(2) == 0;
  options.order_options.promote_after = from_ms(0.05);
  options.order_options.promote_after_auto = rng.below(2) == 0;
  return options;
}

Request random_request(Rng& rng, RequestId id) {
  Request request;
  request.id = id;
  const int length = static_cast<int>(rng.between(1, kRandomModelLen - 1));
  // Few distinct prompts, so that prefixes meet.
  TokenId token = static_cast<TokenId>(rng.below(3));
  for (int i = 0; i < length; ++i)
    request.prompt.push_back((token + i * 7) % kRandomVocab);
  if (rng.below(3) == 0) {
    request.prompt[rng.below(static_cast<std::uint64_t>(length))] =
        static_cast<TokenId>(rng.below(kRandomVocab));
  }
  request.max_tokens = static_cast<int>(rng.between(1, kRandomModelLen - length));
  request.request_class =
      rng.below(3) == 0 ? RequestClass::kBestEffort : RequestClass::kLatencySensitive;
  request.priority = static_cast<int>(rng.between(-1, 1));
  request.cache_salt = rng.below(2);
  if (rng.below(6) == 0) {
    request.sampling.prompt_logprobs = true;
    if (rng.below(2) == 0) request.max_tokens = 0;
  }
  return request;
}

std::map<RequestId, Request> run_random(LoopDriver& driver, Rng& rng, int count, double cancel_rate,
                                        const std::function<void(RequestId)>& on_submit) {
  std::map<RequestId, Request> requests;
  while (static_cast<int>(requests.size()) < count || !driver.loop->idle()) {
    const auto dice = rng.below(4);
    if (dice == 0 && static_cast<int>(requests.size()) < count) {
      do {
        SubmitGroup group;
        group.requests.push_back(random_request(rng, driver.next_id()));
        while (rng.below(4) == 0) {  // one more choice of the same prompt
          group.requests.push_back(group.requests.back());
          group.requests.back().id = driver.next_id();
        }
        driver.now += Duration{static_cast<std::int64_t>(rng.below(20'000))};
        for (const Request& request : group.requests) {
          requests.emplace(request.id, request);
          on_submit(request.id);
        }
        driver.send(std::move(group));
      } while (rng.below(2) == 0 && static_cast<int>(requests.size()) < count);
    } else if (dice == 1 && rng.uniform() < cancel_rate && !requests.empty()) {
      driver.send(CancelRequest{RequestId{rng.below(requests.size()) + 1}});
    } else {
      driver.deliver(Duration{static_cast<std::int64_t>(rng.below(20'000))});
    }
  }
  return requests;
}

}  // namespace gimbal::sched
