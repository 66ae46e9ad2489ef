#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "policy/expert_queue_policy.h"
#include "policy/recursive_least_squares.h"
#include "sched/expert_post.h"

namespace gimbal::sched {

struct ExpertQueuesOptions {
  int layers = 0;
  int experts = 0;      // of a layer
  int max_entries = 0;  // waiting at once, over all queues: the mailboxes' bound
};

// What a service runs at once, grouped by expert. Reused from run to run.
struct ExpertRun {
  struct Group {
    LayerIndex layer;
    ExpertId expert;
    int first = 0;  // its entries are [first, first + count)
    int count = 0;
    TimePoint oldest{};  // when the entry was posted that waited longest
  };
  std::vector<Group> groups;          // in the order of the decision
  std::vector<ExpertEntry> entries;   // of a group in the order in which they were posted
  std::vector<std::int32_t> rows;     // entries[i].row and
  std::vector<std::int32_t> outputs;  // entries[i].output, side by side for kernels
};

// The service's end of an expert exchange: the rows that wait for each (layer, expert), from all
// sources. Ids only: it never sees a row. post → next → take, in any number. The step only labels
// rows: holding a gang step until all its members have posted comes before the queues.
//
// Costs: O(1) an entry in post and take, O(waiting queues) in next and take, O(all that waits) in
// cancel. Nothing allocates after the constructor but the growth of an ExpertRun. One thread; owned
// by the rank's expert service.
class ExpertQueues {
 public:
  // Requires: all options >= 1.
  explicit ExpertQueues(const ExpertQueuesOptions& options);

  // `since`: when the rows began to wait, which may be before those that are here already did.
  // Requires: experts in range, room for all entries.
  void post(const ExpertPost& post, TimePoint since);

  // What to run now, by the policy; indices into waiting(). Holds until the next call of any other
  // member than next.
  [[nodiscard]] const policy::ExpertQueueDecision& next(const policy::ExpertQueuePolicy& policy,
                                                        TimePoint now);
  // Removes all entries of these queues into `run`. Counts a run passed over for each best-effort
  // queue that is left. Requires: `queues` as in a decision, and not empty.
  void take(std::span<const int> queues, ExpertRun& run);

  // Removes what the source's slot posted under `epoch`. Returns how many entries that were.
  int cancel(Rank source, SourceSlot slot, std::uint32_t epoch);

  // Queues that are not empty, in the order in which they began to wait.
  [[nodiscard]] std::span<const policy::WaitingExpertQueue> waiting() const { return waiting_; }
  [[nodiscard]] int entries() const { return live_; }
  // How long a run took: from that the policy's cost of a run is fitted.
  void note_time(const ExpertRun& run, Duration time);
  [[nodiscard]] const policy::ExpertRunCost& cost() const { return cost_; }

 private:
  // Entries of a queue stand in a list of chunks, all full but the last.
  static constexpr std::int32_t kChunkEntries = 8;
  struct Queue {
    std::int32_t head = -1;  // chunks
    std::int32_t tail = -1;
    std::int32_t tail_entries = 0;
    std::int32_t waiting = -1;  // index into waiting_
  };

  [[nodiscard]] Queue& queue(const policy::WaitingExpertQueue& waiting);
  static_assert(std::is_trivially_copyable_v<ExpertEntry> &&
                alignof(ExpertEntry) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
  [[nodiscard]] ExpertEntry* chunk(std::int32_t index) {
    return reinterpret_cast<ExpertEntry*>(entries_.get()) +
           static_cast<std::size_t>(index) * kChunkEntries;
  }
  [[nodiscard]] std::int32_t allocate_chunk();
  void free_chunks(std::int32_t head, std::int32_t tail);
  void open(Queue& queue, LayerIndex layer, std::int32_t expert, TimePoint since);
  void extend(Queue& queue);
  void removed(int count);
  int cancel_in(policy::WaitingExpertQueue& waiting, const ExpertEntry& like);
  void remove_empty();

  ExpertQueuesOptions options_;
  std::vector<Queue> queues_;  // [layers, experts]
  std::vector<policy::WaitingExpertQueue> waiting_;
  // ExpertEntry [chunks, kChunkEntries], as bytes: an entry begins to live when it is written, so
  // that memory is touched only when used.
  std::unique_ptr<std::byte[]> entries_;
  std::vector<std::int32_t> next_chunk_;  // [chunks]
  std::int32_t used_chunks_ = 0;          // [0, used_chunks_) were in use since all were free
  std::int32_t free_chunk_ = -1;          // list of those among them that are free
  int live_ = 0;
  policy::RecursiveLeastSquares<2> fit_;  // of experts, rows
  policy::ExpertRunCost cost_;
  policy::ExpertQueueDecision decision_;
};

}  // namespace gimbal::sched
