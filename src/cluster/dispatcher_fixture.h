#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "cluster/dispatcher.h"

// Small engines for tests of the dispatcher.
namespace gimbal::cluster {

inline TimePoint at_ms(double ms) {
  return TimePoint{from_ms(ms)};
}

inline sched::Request request(std::uint64_t id, int tokens, std::uint64_t user = 0) {
  sched::Request made{.id = RequestId{id}};
  for (int i = 0; i < tokens; ++i)
    made.prompt.push_back(static_cast<TokenId>((id * 131 + static_cast<std::uint64_t>(i)) % 1000));
  made.user_key = user;
  return made;
}

// Fitted: 1 ms + 0.1 a row, 100 rows a step, 100 pages.
inline EngineSnapshot snapshot(std::uint64_t sequence) {
  EngineSnapshot made{.sequence = sequence, .pages_total = 100};
  made.step_times = policy::StepTimeCoefficients{.attention = {1, 0.1, 0, 0, 0}};
  made.budget = {.ceiling = 100};
  made.max_waiting_prefill_tokens = 1000;
  return made;
}

inline std::unique_ptr<Dispatcher> make(DispatcherOptions options,
                                        DispatchRecorder* recorder = nullptr) {
  auto made = Dispatcher::make(options, recorder);
  EXPECT_TRUE(made.ok());
  for (int i = 0; i < options.engines; ++i)
    (*made)->note_snapshot(EngineId{i}, snapshot(1));
  return std::move(made).value();
}

inline EngineSnapshot loaded(std::uint64_t sequence, double running_tokens, std::uint64_t seen) {
  EngineSnapshot made = snapshot(sequence);
  made.running_requests = 1;
  made.running_prefill_tokens = static_cast<std::int64_t>(running_tokens);
  made.dispatch_sequence = seen;
  return made;
}

// Submits one request and says where it went; -1: it waits.
inline int send(Dispatcher& dispatcher, sched::Request each, double now = 0) {
  const auto submitted = dispatcher.submit({std::move(each)}, at_ms(now));
  EXPECT_TRUE(submitted.ok());
  const auto sent = dispatcher.next(at_ms(now));
  return sent ? sent->engine.value() : -1;
}

}  // namespace gimbal::cluster
