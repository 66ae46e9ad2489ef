#include "sched/step_planner.h"

#include <algorithm>

#include "base/check.h"
#include "sched/request_group.h"

namespace gimbal::sched {

namespace {

bool came_later(const Sequence& a, const Sequence& b) {
  return a.arrival != b.arrival ? a.arrival > b.arrival : a.ordinal > b.ordinal;
}

}  // namespace

StepPlanner::StepPlanner(const StepLoopOptions& options, const Collaborators& collaborators)
    : options_(options),
      former_(collaborators.former),
      table_(collaborators.table),
      cache_(collaborators.cache),
      prefixes_(options_, collaborators.cache),
      waiting_(options_,
               {.order = collaborators.order, .table = collaborators.table, .prefixes = prefixes_}),
      times_(collaborators.times) {}

void StepPlanner::take_moves(std::vector<RequestId>& admitted, std::vector<RequestId>& evicted) {
  admitted.insert(admitted.end(), admitted_.begin(), admitted_.end());
  evicted.insert(evicted.end(), evicted_.begin(), evicted_.end());
  admitted_.clear();
  evicted_.clear();
}

void StepPlanner::take_out(Sequence& sequence) {
  if (sequence.phase == Phase::kWaiting) {
    waiting_.erase(sequence);
    return;
  }
  cache_.release(*sequence.slot);
  sequence.slot.reset();
  std::erase(running_, sequence.request.id);
}

void StepPlanner::remove(Sequence& sequence, TimePoint now) {
  take_out(sequence);
  waiting_.note_end(sequence, now);
}

void StepPlanner::commit(Sequence& sequence, int computed, TimePoint now) {
  sequence.computed = computed;
  cache_.commit(*sequence.slot, sequence.tokens, computed);
  waiting_.note_computed(sequence, computed, now);
}

bool StepPlanner::preview(TimePoint now, policy::GangMember& member) {
  if (running_.empty() && queues().size() == 0) return false;
  policy::BatchView view;
  look(now, view);
  former_.form(view, decision_);
  member.decode_context = static_cast<double>(view.decode_context);
  member.prefill_position = view.prefill_position;
  member.requests = static_cast<int>(running_.size() + queues().size());
  member.latency_sensitive = false;
  std::int64_t most = 0;
  for (const policy::RunningSequence& sequence : view.running) {
    member.decodes += sequence.prefill_left == 0 ? 1 : 0;
    most += sequence.prefill_left;
    member.latency_sensitive = member.latency_sensitive || !sequence.best_effort;
  }
  for (const policy::WaitingRequest& request : view.waiting) {
    most += request.prefill;
    member.latency_sensitive = member.latency_sensitive || !request.best_effort;
  }
  member.decodes = std::min(member.decodes, view.max_rows);
  for (const policy::Grant& grant : decision_.grants) {
    const bool decodes =
        !grant.waiting && view.running[static_cast<std::size_t>(grant.index)].prefill_left == 0;
    if (!decodes) member.want += grant.rows;
  }
  member.most = static_cast<int>(
      std::max<std::int64_t>(member.want, std::min<std::int64_t>(most, view.max_rows)));
  return true;
}

bool StepPlanner::plan(TimePoint now, std::uint64_t step, StepPlan& plan,
                       std::optional<int> prefill_budget) {
  plan.sequences.clear();
  waiting_.begin_step(now);
  while (!running_.empty() || queues().size() > 0) {
    policy::BatchView view;
    look(now, view);
    view.prefill_budget = prefill_budget;
    former_.form(view, decision_);
    if (decision_.head_lacks_pages && make_room_for_head()) continue;
    const bool evicted = carry_out(now);
    best_effort_owed_ = decision_.best_effort_owed;
    steps_without_prefill_ = decision_.steps_without_prefill;
    write_plan(step, plan);
    if (!plan.sequences.empty()) return true;
    // Whoever was to run has been evicted: plan for the others.
    GIMBAL_CHECK(evicted, "a batch former let work stand still");
  }
  return false;
}

void StepPlanner::look(TimePoint now, policy::BatchView& view) {
  view.max_rows = options_.max_num_batched_tokens;
  view.max_sequences = options_.max_num_seqs;
  view.free_pages = cache_.free_pages();
  view.page_tokens = options_.page_tokens;
  view.best_effort_owed = best_effort_owed_;
  view.steps_without_prefill = steps_without_prefill_;
  view.times = &times_;
  collect_running(view);
  collect_waiting(now, view);
}

void StepPlanner::collect_running(policy::BatchView& view) {
  running_views_.clear();
  int decodes = 0;
  for (const RequestId id : running_) {
    const Sequence& sequence = table_.at(id);
    const int prefill_left = sequence.phase == Phase::kPrefill ? sequence.uncomputed() : 0;
    running_views_.push_back({sequence.best_effort(), prefill_left, sequence.last_served});
    view.backlog += prefill_left;
    if (prefill_left > 0) {
      view.prefill_position += sequence.computed;
    } else {
      ++decodes;
      view.decode_context += sequence.known();
    }
  }
  if (const auto prefills = static_cast<int>(running_.size()) - decodes; prefills > 0) {
    view.prefill_position /= prefills;
  }
  view.running = running_views_;
}

void StepPlanner::collect_waiting(TimePoint now, policy::BatchView& view) {
  waiting_views_.clear();
  heads_.clear();
  collect_heads(now, RequestClass::kLatencySensitive);
  collect_heads(now, RequestClass::kBestEffort);
  view.backlog += queues().prefill_tokens();
  view.waiting = waiting_views_;
}

// No more heads than a step could admit, for each of them costs a look into the prefix index.
void StepPlanner::collect_heads(TimePoint now, RequestClass request_class) {
  int slots = options_.max_num_seqs - static_cast<int>(running_.size());
  std::int64_t rows = options_.max_num_batched_tokens;
  std::int64_t pages = cache_.free_pages();
  queues().for_each(request_class, now, [&](RequestId id) {
    const Sequence& sequence = table_.at(id);
    kv::PrefixMatch match;
    if (slots > 0) match = prefixes_.match(sequence);
    policy::WaitingRequest head;
    head.best_effort = sequence.best_effort();
    head.arrival = sequence.arrival;
    head.prefill = sequence.known() - match.tokens;
    head.pages = cache_.pages_needed(match, sequence.known());
    waiting_views_.push_back(head);
    heads_.push_back(id);
    --slots;
    rows -= head.prefill;
    pages -= head.pages;
    return slots > 0 && rows > 0 && pages > 0;
  });
}

// Gives the granted sequences their pages and admits; fills granted_. True: somebody was evicted.
bool StepPlanner::carry_out(TimePoint now) {
  granted_.clear();
  for (const policy::Grant& grant : decision_.grants) {
    const RequestId id = grant.waiting ? heads_[static_cast<std::size_t>(grant.index)]
                                       : running_[static_cast<std::size_t>(grant.index)];
    granted_.push_back({id, grant.rows});
  }
  const std::uint64_t evictions = totals_.evictions;
  for (std::size_t i = 0; i < granted_.size(); ++i) {
    Sequence& sequence = table_.at(granted_[i].request);
    const bool runs = sequence.phase != Phase::kWaiting && !decision_.grants[i].waiting;
    if (runs && !grow(sequence, sequence.computed + granted_[i].rows)) granted_[i].rows = 0;
  }
  bool admitting = true;
  for (std::size_t i = 0; i < granted_.size(); ++i) {
    Sequence& sequence = table_.at(granted_[i].request);
    if (decision_.grants[i].waiting) {
      admitting = admitting && admit(sequence, now);
      if (admitting) granted_[i].rows = std::min(granted_[i].rows, sequence.uncomputed());
    }
    if (sequence.phase == Phase::kWaiting) granted_[i].rows = 0;  // evicted, or not admitted
  }
  return totals_.evictions != evictions;
}

// False: the sequence itself had to be evicted.
bool StepPlanner::grow(Sequence& sequence, int tokens) {
  while (!cache_.grow(*sequence.slot, tokens)) {
    Sequence& victim = choose_victim();
    evict(victim, OrderReason::kEvicted);
    if (&victim == &sequence) return false;
  }
  return true;
}

Sequence& StepPlanner::choose_victim() {
  Sequence* victim = nullptr;
  const auto goes_before = [](const Sequence& a, const Sequence& b) {
    if (a.evicted_since_token != b.evicted_since_token) return b.evicted_since_token;
    if (a.best_effort() != b.best_effort()) return a.best_effort();
    return came_later(a, b);
  };
  for (const RequestId id : running_) {
    Sequence& sequence = table_.at(id);
    if (victim == nullptr || goes_before(sequence, *victim)) victim = &sequence;
  }
  GIMBAL_CHECK(victim != nullptr);
  return *victim;
}

void StepPlanner::evict(Sequence& sequence, OrderReason reason) {
  ++totals_.evictions;
  take_out(sequence);
  sequence.lost_tokens = std::max(sequence.lost_tokens, sequence.computed);
  sequence.computed = 0;
  sequence.evicted_since_token = true;
  evicted_.push_back(sequence.request.id);
  sequence.phase = Phase::kWaiting;
  waiting_.requeue(sequence, reason);
}

// Evicts best-effort sequences until the first head has its pages. False: it would not have them,
// and nobody was evicted.
bool StepPlanner::make_room_for_head() {
  if (!former_.evicts_for_heads()) return false;
  const Sequence& head = table_.at(heads_.front());
  int kept = 0;  // free pages that running decodes may need
  int gain = 0;
  victims_.clear();
  for (const RequestId id : running_) {
    const Sequence& sequence = table_.at(id);
    const int decode = sequence.phase == Phase::kDecode ? 1 : 0;
    kept += decode;
    if (!sequence.best_effort() || sequence.evicted_since_token) continue;
    victims_.push_back(id);
    gain += cache_.exclusive_pages(*sequence.slot) + decode;
  }
  const auto lacks = [&] {
    return cache_.pages_needed(prefixes_.match(head), head.known()) + kept - cache_.free_pages();
  };
  // Pages that the head shares with a victim are no gain: once idle, it takes them itself.
  const kv::PrefixMatch before = prefixes_.match(head);
  const int shared = before.tokens / options_.page_tokens - before.idle_pages;
  if (lacks() <= 0 || gain < lacks() + shared) return false;
  std::sort(victims_.begin(), victims_.end(),
            [this](RequestId a, RequestId b) { return came_later(table_.at(a), table_.at(b)); });
  for (std::size_t i = 0; i < victims_.size() && lacks() > 0; ++i) {
    Sequence& victim = table_.at(victims_[i]);
    kept -= victim.phase == Phase::kDecode ? 1 : 0;
    evict(victim, OrderReason::kMadeRoom);
    ++totals_.evictions_for_heads;
  }
  GIMBAL_CHECK(lacks() <= 0);
  return true;
}

// The former has counted the pages; admissions before this one, or decodes, may have pushed its
// prefix out of the cache since.
bool StepPlanner::admit(Sequence& sequence, TimePoint now) {
  const kv::PrefixMatch match = prefixes_.match(sequence);
  if (cache_.pages_needed(match, sequence.known()) > cache_.free_pages()) return false;
  waiting_.take_to_admit(sequence);
  sequence.tokens.reserve(static_cast<std::size_t>(sequence.max_tokens_known));
  const kv::Attached attached = prefixes_.attach(sequence);
  sequence.slot = attached.slot;
  sequence.computed = attached.hit_tokens;
  sequence.phase = Phase::kPrefill;
  GIMBAL_CHECK(cache_.grow(attached.slot, sequence.known()));
  running_.push_back(sequence.request.id);
  admitted_.push_back(sequence.request.id);
  totals_.recomputed_tokens +=
      static_cast<std::uint64_t>(std::max(0, sequence.lost_tokens - sequence.computed));
  sequence.lost_tokens = 0;
  if (sequence.was_admitted) return true;
  sequence.was_admitted = true;
  sequence.admitted = now;
  sequence.cached_tokens = attached.hit_tokens;
  waiting_.note_admitted(sequence, now);
  if (may_hit_prefix(sequence.request, options_)) {
    totals_.prefix_queried_tokens += static_cast<std::uint64_t>(sequence.prompt_tokens);
    totals_.prefix_hit_tokens += static_cast<std::uint64_t>(attached.hit_tokens);
  }
  return true;
}

void StepPlanner::count(TimePoint now, SchedulerCounters& counters) const {
  counters.waiting_prefill_tokens = queues().prefill_tokens();
  counters.waiting_best_effort_prefill_tokens = queues().prefill_tokens(RequestClass::kBestEffort);
  counters.waiting_requests = queues().size();
  counters.waiting_best_effort_requests = queues().size(RequestClass::kBestEffort);
  if (options_.profile_queues) {
    counters.queue = queues().profile(RequestClass::kLatencySensitive, now);
    counters.best_effort_queue = queues().profile(RequestClass::kBestEffort, now);
  }
  counters.running_requests = static_cast<std::int64_t>(running_.size());
  for (const RequestId id : running_) {
    const Sequence& sequence = table_.at(id);
    if (sequence.phase == Phase::kDecode) {
      ++counters.decodes;
      counters.decode_context_tokens += sequence.known();
    } else {
      counters.running_prefill_tokens += sequence.uncomputed();
    }
  }
  counters.prefix_queried_tokens = totals_.prefix_queried_tokens;
  counters.prefix_hit_tokens = totals_.prefix_hit_tokens;
  counters.evictions = totals_.evictions;
  counters.evictions_for_heads = totals_.evictions_for_heads;
  counters.recomputed_tokens = totals_.recomputed_tokens;
  counters.aging = waiting_.aging(RequestClass::kLatencySensitive);
  counters.best_effort_aging = waiting_.aging(RequestClass::kBestEffort);
}

void StepPlanner::write_plan(std::uint64_t step, StepPlan& plan) {
  for (const GrantedRows& granted : granted_) {
    if (granted.rows == 0) continue;
    Sequence& sequence = table_.at(granted.request);
    sequence.last_served = step;
    SequenceStep& row = plan.sequences.emplace_back();
    row.request = granted.request;
    row.request_class = sequence.request.request_class;
    row.tokens = sequence.tokens;
    row.position = sequence.computed;
    row.rows = granted.rows;
    row.pages = cache_.pages(*sequence.slot);
    row.prompt_tokens = sequence.prompt_tokens;
    row.samples = granted.rows == sequence.uncomputed() && sequence.request.max_tokens > 0;
    row.sampling = &sequence.request.sampling;
  }
}

}  // namespace gimbal::sched
