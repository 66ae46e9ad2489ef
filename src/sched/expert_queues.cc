#include "sched/expert_queues.h"

#include "base/check.h"

namespace gimbal::sched {

using policy::WaitingExpertQueue;

ExpertQueues::ExpertQueues(const ExpertQueuesOptions& options) : options_(options) {
  GIMBAL_CHECK(options.layers >= 1 && options.experts >= 1 && options.max_entries >= 1);
  const auto queues =
      static_cast<std::size_t>(options.layers) * static_cast<std::size_t>(options.experts);
  queues_.resize(queues);
  waiting_.reserve(queues);
  decision_.run.reserve(queues);
  nodes_.resize(static_cast<std::size_t>(options.max_entries));
}

ExpertQueues::Queue& ExpertQueues::queue(const WaitingExpertQueue& waiting) {
  return queues_[static_cast<std::size_t>(waiting.layer.value()) *
                     static_cast<std::size_t>(options_.experts) +
                 static_cast<std::size_t>(waiting.expert.value())];
}

std::int32_t ExpertQueues::allocate_node() {
  if (free_ < 0) return used_++;
  const std::int32_t node = free_;
  free_ = nodes_[static_cast<std::size_t>(node)].next;
  return node;
}

void ExpertQueues::free_nodes(std::int32_t head, std::int32_t tail, int count) {
  live_ -= count;
  if (live_ == 0) {  // start over, so that memory is used in order again
    used_ = 0;
    free_ = -1;
    return;
  }
  nodes_[static_cast<std::size_t>(tail)].next = free_;
  free_ = head;
}

void ExpertQueues::append(const ExpertPost& post, const PostedRow& row, std::size_t k,
                          std::span<const std::int32_t> experts, TimePoint now) {
  Queue* const layer = queues_.data() + static_cast<std::size_t>(post.layer.value()) *
                                            static_cast<std::size_t>(options_.experts);
  for (std::size_t choice = 0; choice < k; ++choice) {
    const std::int32_t expert = experts[choice];
    GIMBAL_CHECK(static_cast<std::uint32_t>(expert) < static_cast<std::uint32_t>(options_.experts));
    Queue& queue = layer[expert];
    const std::int32_t index = allocate_node();
    Node& node = nodes_[static_cast<std::size_t>(index)];
    node.entry = {.slot = row.slot,
                  .epoch = row.epoch,
                  .row = row.row,
                  .output = row.first_output + static_cast<std::int32_t>(choice),
                  .map_version = post.map_version,
                  .step = post.step,
                  .source = static_cast<std::int16_t>(post.source.value()),
                  .request_class = row.request_class};
    node.next = -1;
    if (queue.waiting < 0) {
      queue.head = index;
      queue.waiting = static_cast<std::int32_t>(waiting_.size());
      waiting_.push_back({.layer = post.layer, .expert = ExpertId{expert}, .oldest = now});
    } else {
      nodes_[static_cast<std::size_t>(queue.tail)].next = index;
    }
    queue.tail = index;
    WaitingExpertQueue& waiting = waiting_[static_cast<std::size_t>(queue.waiting)];
    if (row.request_class == RequestClass::kLatencySensitive) {
      ++waiting.latency_sensitive_rows;
    } else {
      ++waiting.best_effort_rows;
    }
  }
}

void ExpertQueues::post(const ExpertPost& post, TimePoint now) {
  if (post.rows.empty()) return;
  GIMBAL_CHECK(post.experts.size() % post.rows.size() == 0);
  GIMBAL_CHECK(post.layer.value() >= 0 && post.layer.value() < options_.layers);
  GIMBAL_CHECK(post.experts.size() <= nodes_.size() - static_cast<std::size_t>(live_),
               "more rows wait than a service has room for");
  const std::size_t k = post.experts.size() / post.rows.size();
  for (std::size_t i = 0; i < post.rows.size(); ++i) {
    append(post, post.rows[i], k, post.experts.subspan(i * k, k), now);
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
    run.groups.push_back({waiting.layer, waiting.expert, static_cast<int>(total), waiting.rows()});
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
    for (std::int32_t at = taken.head; at >= 0;) {
      const Node& node = nodes_[static_cast<std::size_t>(at)];
      run.entries[out] = node.entry;
      run.rows[out] = node.entry.row;
      run.outputs[out] = node.entry.output;
      ++out;
      at = node.next;
    }
    free_nodes(taken.head, taken.tail, waiting.rows());
    waiting.latency_sensitive_rows = 0;
    waiting.best_effort_rows = 0;
    taken = Queue{};
  }
  remove_empty();
  for (WaitingExpertQueue& left : waiting_) {
    if (left.best_effort_only()) ++left.deferred_runs;
  }
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
  int removed = 0;
  for (WaitingExpertQueue& waiting : waiting_)
    removed += cancel_in(waiting, like);
  if (removed > 0) remove_empty();
  return removed;
}

int ExpertQueues::cancel_in(WaitingExpertQueue& waiting, const ExpertEntry& like) {
  Queue& searched = queue(waiting);
  int removed = 0;
  std::int32_t previous = -1;
  for (std::int32_t at = searched.head; at >= 0;) {
    Node& node = nodes_[static_cast<std::size_t>(at)];
    const std::int32_t following = node.next;
    const ExpertEntry& entry = node.entry;
    if (entry.slot == like.slot && entry.epoch == like.epoch && entry.source == like.source) {
      if (entry.request_class == RequestClass::kLatencySensitive) {
        --waiting.latency_sensitive_rows;
      } else {
        --waiting.best_effort_rows;
      }
      if (previous >= 0) {
        nodes_[static_cast<std::size_t>(previous)].next = following;
      } else {
        searched.head = following;
      }
      if (following < 0) searched.tail = previous;
      free_nodes(at, at, 1);
      ++removed;
    } else {
      previous = at;
    }
    at = following;
  }
  if (searched.head < 0) searched = Queue{};
  return removed;
}

}  // namespace gimbal::sched
