#include "sched/expert_queues.h"

#include <algorithm>

#include "base/check.h"

namespace gimbal::sched {

using policy::WaitingExpertQueue;

namespace {

constexpr double kForgetting = 0.995;  // a run
constexpr double kTypicalExperts = 8;  // of a run
constexpr double kTypicalRows = 32;
constexpr double kLeastMs = 0.01;  // shorter runs weigh no more: clocks are not that exact

}  // namespace

ExpertQueues::ExpertQueues(const ExpertQueuesOptions& options)
    : options_(options), fit_({kTypicalExperts, kTypicalRows}, kForgetting) {
  GIMBAL_CHECK(options.layers >= 1 && options.experts >= 1 && options.max_entries >= 1);
  const auto queues =
      static_cast<std::size_t>(options.layers) * static_cast<std::size_t>(options.experts);
  const auto entries = static_cast<std::size_t>(options.max_entries);
  queues_.resize(queues);
  waiting_.reserve(queues);
  decision_.run.reserve(queues);
  // A queue wastes less than one chunk.
  const std::size_t chunks = entries / kChunkEntries + std::min(queues, entries);
  entries_ =
      std::make_unique_for_overwrite<std::byte[]>(chunks * kChunkEntries * sizeof(ExpertEntry));
  next_chunk_.resize(chunks);
}

ExpertQueues::Queue& ExpertQueues::queue(const WaitingExpertQueue& waiting) {
  return queues_[static_cast<std::size_t>(waiting.layer.value()) *
                     static_cast<std::size_t>(options_.experts) +
                 static_cast<std::size_t>(waiting.expert.value())];
}

std::int32_t ExpertQueues::allocate_chunk() {
  std::int32_t chunk = free_chunk_;
  if (chunk < 0) {
    chunk = used_chunks_++;
  } else {
    free_chunk_ = next_chunk_[static_cast<std::size_t>(chunk)];
  }
  next_chunk_[static_cast<std::size_t>(chunk)] = -1;
  return chunk;
}

void ExpertQueues::free_chunks(std::int32_t head, std::int32_t tail) {
  next_chunk_[static_cast<std::size_t>(tail)] = free_chunk_;
  free_chunk_ = head;
}

void ExpertQueues::open(Queue& queue, LayerIndex layer, std::int32_t expert, TimePoint since) {
  queue.head = allocate_chunk();
  queue.tail = queue.head;
  queue.tail_entries = 0;
  queue.waiting = static_cast<std::int32_t>(waiting_.size());
  waiting_.push_back({.layer = layer, .expert = ExpertId{expert}, .oldest = since});
}

void ExpertQueues::extend(Queue& queue) {
  const std::int32_t added = allocate_chunk();
  next_chunk_[static_cast<std::size_t>(queue.tail)] = added;
  queue.tail = added;
  queue.tail_entries = 0;
}

void ExpertQueues::post(const ExpertPost& post, TimePoint since) {
  if (post.rows.empty()) return;
  GIMBAL_CHECK(post.experts.size() % post.rows.size() == 0);
  GIMBAL_CHECK(post.layer.value() >= 0 && post.layer.value() < options_.layers);
  GIMBAL_CHECK(post.experts.size() <= static_cast<std::size_t>(options_.max_entries - live_),
               "more rows wait than a service has room for");
  const std::size_t k = post.experts.size() / post.rows.size();
  const auto experts = static_cast<std::uint32_t>(options_.experts);
  Queue* const layer = queues_.data() + static_cast<std::size_t>(post.layer.value()) * experts;
  const std::int32_t* chosen = post.experts.data();
  for (const PostedRow& row : post.rows) {
    std::int32_t output = row.first_output;
    const auto rows_of_class = row.request_class == RequestClass::kLatencySensitive
                                   ? &WaitingExpertQueue::latency_sensitive_rows
                                   : &WaitingExpertQueue::best_effort_rows;
    for (const std::int32_t* const end = chosen + k; chosen != end; ++chosen) {
      GIMBAL_CHECK(static_cast<std::uint32_t>(*chosen) < experts);
      Queue& queue = layer[*chosen];
      if (queue.waiting < 0) {
        open(queue, post.layer, *chosen, since);
      } else if (queue.tail_entries == kChunkEntries) {
        extend(queue);
      }
      // Field by field: a whole entry would be put together on the stack and read back at once,
      // which waits for the stores (three times slower).
      ExpertEntry& entry = chunk(queue.tail)[queue.tail_entries++];
      entry.slot = row.slot;
      entry.epoch = row.epoch;
      entry.row = row.row;
      entry.output = output++;
      entry.map_version = post.map_version;
      entry.step = post.step;
      entry.source = static_cast<std::int16_t>(post.source.value());
      entry.request_class = row.request_class;
      WaitingExpertQueue& waiting = waiting_[static_cast<std::size_t>(queue.waiting)];
      waiting.oldest = std::min(waiting.oldest, since);
      ++(waiting.*rows_of_class);
      waiting.gang_rows += post.step != kSolo ? 1 : 0;
    }
  }
  live_ += static_cast<int>(post.experts.size());
}

const policy::ExpertQueueDecision& ExpertQueues::next(const policy::ExpertQueuePolicy& policy,
                                                      TimePoint now) {
  policy.choose({.queues = waiting_, .cost = cost_, .now = now}, decision_);
  return decision_;
}

void ExpertQueues::take(std::span<const int> queues, ExpertRun& run) {
  GIMBAL_CHECK(!queues.empty());
  std::size_t total = 0;
  run.groups.clear();
  for (const int index : queues) {
    GIMBAL_CHECK(index >= 0 && static_cast<std::size_t>(index) < waiting_.size());
    const WaitingExpertQueue& waiting = waiting_[static_cast<std::size_t>(index)];
    run.groups.push_back(
        {waiting.layer, waiting.expert, static_cast<int>(total), waiting.rows(), waiting.oldest});
    total += static_cast<std::size_t>(waiting.rows());
  }
  run.entries.resize(total);
  run.rows.resize(total);
  run.outputs.resize(total);
  std::size_t out = 0;
  for (const int index : queues) {
    WaitingExpertQueue& waiting = waiting_[static_cast<std::size_t>(index)];
    GIMBAL_CHECK(waiting.rows() > 0, "a queue is taken twice");
    Queue& taken = queue(waiting);
    for (std::int32_t at = taken.head; at >= 0; at = next_chunk_[static_cast<std::size_t>(at)]) {
      const ExpertEntry* const entries = chunk(at);
      const std::int32_t count = at == taken.tail ? taken.tail_entries : kChunkEntries;
      for (std::int32_t i = 0; i < count; ++i, ++out) {
        run.entries[out] = entries[i];
        run.rows[out] = entries[i].row;
        run.outputs[out] = entries[i].output;
      }
    }
    free_chunks(taken.head, taken.tail);
    waiting.latency_sensitive_rows = 0;
    waiting.best_effort_rows = 0;
    waiting.gang_rows = 0;
    taken = Queue{};
  }
  removed(static_cast<int>(total));
  remove_empty();
  for (WaitingExpertQueue& left : waiting_) {
    if (left.best_effort_only()) ++left.deferred_runs;
  }
}

// Relative errors count, so that long prefill runs do not hide what decodes cost.
void ExpertQueues::note_time(const ExpertRun& run, Duration time) {
  const double ms = to_ms(time);
  const double scale = 1 / std::max(ms, kLeastMs);
  fit_.add({static_cast<double>(run.groups.size()), static_cast<double>(run.entries.size())}, ms,
           scale * scale);
  cost_ = {.ms_per_expert = std::max(0.0, fit_.coefficient(0)),
           .ms_per_row = std::max(0.0, fit_.coefficient(1))};
}

void ExpertQueues::removed(int count) {
  live_ -= count;
  if (live_ > 0) return;
  used_chunks_ = 0;  // start over, so that memory is used in order again
  free_chunk_ = -1;
}

void ExpertQueues::remove_empty() {
  if (live_ == 0) {
    waiting_.clear();
    return;
  }
  std::size_t kept = 0;
  for (const WaitingExpertQueue& waiting : waiting_) {
    if (waiting.rows() == 0) continue;
    queue(waiting).waiting = static_cast<std::int32_t>(kept);
    waiting_[kept++] = waiting;
  }
  waiting_.resize(kept);
}

int ExpertQueues::cancel(Rank source, SourceSlot slot, std::uint32_t epoch) {
  const ExpertEntry like{
      .slot = slot, .epoch = epoch, .source = static_cast<std::int16_t>(source.value())};
  int count = 0;
  for (WaitingExpertQueue& waiting : waiting_)
    count += cancel_in(waiting, like);
  if (count > 0) {
    removed(count);
    remove_empty();
  }
  return count;
}

// Moves the entries that stay to the front of the queue's chunks and frees the rest.
int ExpertQueues::cancel_in(WaitingExpertQueue& waiting, const ExpertEntry& like) {
  Queue& searched = queue(waiting);
  const std::int32_t old_tail = searched.tail;
  const std::int32_t old_tail_entries = searched.tail_entries;
  int count = 0;
  std::int32_t to = searched.head;  // the next entry that stays goes to chunk(to)[filled]
  std::int32_t filled = 0;
  for (std::int32_t at = searched.head; at >= 0; at = next_chunk_[static_cast<std::size_t>(at)]) {
    const std::int32_t entries = at == old_tail ? old_tail_entries : kChunkEntries;
    for (std::int32_t i = 0; i < entries; ++i) {
      const ExpertEntry& entry = chunk(at)[i];
      if (entry.slot == like.slot && entry.epoch == like.epoch && entry.source == like.source) {
        --(entry.request_class == RequestClass::kLatencySensitive ? waiting.latency_sensitive_rows
                                                                  : waiting.best_effort_rows);
        waiting.gang_rows -= entry.step != kSolo ? 1 : 0;
        ++count;
        continue;
      }
      if (filled == kChunkEntries) {
        to = next_chunk_[static_cast<std::size_t>(to)];
        filled = 0;
      }
      chunk(to)[filled++] = entry;
    }
  }
  if (waiting.rows() == 0) {
    free_chunks(searched.head, old_tail);
    searched = Queue{};
    return count;
  }
  if (to != old_tail) {
    free_chunks(next_chunk_[static_cast<std::size_t>(to)], old_tail);
    next_chunk_[static_cast<std::size_t>(to)] = -1;
  }
  searched.tail = to;
  searched.tail_entries = filled;
  return count;
}

}  // namespace gimbal::sched
