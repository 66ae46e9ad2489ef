#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/duration_histogram.h"
#include "base/trace.h"
#include "comm/exchange_profile.h"
#include "comm/in_process/doorbell.h"
#include "engine/expert_message.h"
#include "engine/expert_service.h"
#include "engine/life_signs.h"
#include "kernels/kernel_context.h"
#include "model/batch_rows.h"
#include "model/forward.h"
#include "sched/gang_holds.h"

namespace gimbal::engine {

struct ExpertStationOptions {
  Rank rank;
  int ranks = 1;
  std::int64_t max_entries = 1;  // (row, choice) pairs of one source under way at once
  const comm::ExchangeProfile* profile = nullptr;  // imposed delays; null: none
};

// The expert service of one rank of a group with its mail: a mailbox from each source, the holds of
// gang steps, and the way back. It has no thread. Whoever may run it calls serve(), one at a time;
// a second caller goes away at once, because the first looks again before it leaves.
//
// Thread rule: deliver(): the source's thread. returns(): that source's thread receives. serve():
// any thread. The rest as said.
class ExpertStation {
 public:
  // `bells` ring the sources, [ranks]. All references must outlive the station.
  ExpertStation(const model::Model& model, const model::RowStore& rows, const Clock& clock,
                std::span<comm::Doorbell* const> bells, const ExpertStationOptions& options);

  // Replaces the service's policy (run-all). Requires: nobody serves yet.
  void set_policy(std::unique_ptr<policy::ExpertQueuePolicy> policy) {
    service_.set_policy(std::move(policy));
  }

  // Draws the service's runs and queues, and holds, on a line each. Requires: nobody serves yet;
  // the trace outlives the station.
  void set_trace(Trace& trace, std::int32_t process);

  // Whether deliver() would find room for a message of so many rows. The source's thread.
  [[nodiscard]] bool has_room(Rank source, std::size_t rows) const {
    return mail_[static_cast<std::size_t>(source.value())]->has_room(rows);
  }
  // Puts a message into the source's mailbox. The caller rings whoever serves here. Requires:
  // has_room().
  void deliver(Rank source, const PostHeader& header, std::span<const PostedEntry> entries);
  // When a message of the source with that many rows would arrive, if it is sent now.
  [[nodiscard]] TimePoint arrival(Rank source, TimePoint now, std::size_t rows);

  // Whether serve() would find mail or rows, or a hold's deadline has passed. Any thread.
  [[nodiscard]] bool has_work() const {
    return pending_.load() || (due_.load(std::memory_order_relaxed) != kNever &&
                               clock_.now().time_since_epoch() >= due());
  }
  // When there is something to do though nobody sends anything: a message arrives that is under
  // way, or a hold's deadline passes; nullopt: never, as far as is known. Any thread.
  [[nodiscard]] std::optional<TimePoint> next_due() const;

  // Takes the mail and runs what is there, on the thread of rank `server`, which beats before each
  // run. Adds members whom holds have ceased to wait for to `late`. True: something was run.
  bool serve(const kernels::KernelContext& context, Rank server, LifeSigns& life,
             std::vector<sched::GangRelease::Late>& late);
  // Whose thread serves now; for good, if it threw or hangs in there: then what it had taken is
  // lost. Any thread.
  [[nodiscard]] std::optional<Rank> server() const {
    const int rank = server_.load();
    return rank == kNobody ? std::nullopt : std::optional(Rank{rank});
  }

  // Outputs for `source`, to be received by its thread.
  [[nodiscard]] ReturnChannel& returns(Rank source) {
    return *returns_[static_cast<std::size_t>(source.value())];
  }

  // The rank posts no more, and nothing is held for it. Any thread; takes effect at the next
  // serve().
  void forget(Rank rank);

  // What the station has done since the start. Any thread; not all of one moment.
  struct Counters {
    std::uint64_t runs = 0;
    std::uint64_t rows = 0;
    std::uint64_t distinct_experts = 0;
    Duration busy{};
    std::uint64_t holds = 0;      // (gang step, layer)s that were run as one
    Duration held{};              // posts' time between their arrival and their release, in holds
    std::uint64_t bytes_in = 0;   // rows that came from other ranks, and
    std::uint64_t bytes_out = 0;  // outputs that went back to them
  };
  [[nodiscard]] Counters counters() const;
  // How long each post waited in a hold. Any thread.
  [[nodiscard]] DurationHistogram::Reading holds() const { return hold_times_.read(); }
  [[nodiscard]] const ExpertService& service() const { return service_; }

 private:
  static constexpr Duration::rep kNever = std::numeric_limits<Duration::rep>::max();
  static constexpr int kNobody = -1;

  // A post whose gang step waits for others.
  struct Held {
    PostHeader header;
    Rank source;
    TimePoint since{};
    std::vector<PostedEntry> entries;
  };
  struct Totals {
    std::atomic<std::uint64_t> runs{0};
    std::atomic<std::uint64_t> rows{0};
    std::atomic<std::uint64_t> distinct_experts{0};
    std::atomic<Duration::rep> busy{0};
    std::atomic<std::uint64_t> holds{0};
    std::atomic<Duration::rep> held{0};
    std::atomic<std::uint64_t> bytes_in{0};
    std::atomic<std::uint64_t> bytes_out{0};
  };

  [[nodiscard]] Duration due() const { return Duration{due_.load(std::memory_order_relaxed)}; }
  void take_mail(std::vector<sched::GangRelease::Late>& late);
  void expire_holds(std::vector<sched::GangRelease::Late>& late);
  void take_message(Rank source, PostChannel& mail);
  void hold(Rank source, const PostHeader& header);
  void release();
  void queue(Rank source, const PostHeader& header, std::span<const PostedEntry> entries);
  void forget_the_dead();
  bool run_once(const kernels::KernelContext& context);
  void send_back(std::span<const sched::ExpertEntry> entries,
                 const ExpertService::Counters& before);

  const Clock& clock_;
  std::vector<comm::Doorbell*> bells_;
  ExpertStationOptions options_;
  std::uint64_t row_bytes_;
  std::vector<std::unique_ptr<PostChannel>> mail_;       // by source
  std::vector<std::unique_ptr<ReturnChannel>> returns_;  // by source
  std::vector<comm::ExchangeLink> links_in_;             // by source; its thread's
  std::atomic<bool> pending_{false};                     // mail or rows are there
  std::atomic<Duration::rep> due_{kNever};               // see next_due()
  std::atomic<std::uint64_t> dead_{0};                   // a bit a rank
  std::atomic<int> server_{kNobody};                     // the rank that serves; guards the rest
  model::StageWorkspace workspace_;
  ExpertService service_;
  sched::GangHolds holds_;
  std::vector<comm::ExchangeLink> links_out_;  // by source
  std::vector<Held> held_;
  std::vector<std::int32_t> free_held_;
  sched::GangRelease release_;
  std::vector<PostedEntry> entries_;
  std::vector<sched::PostedRow> rows_;
  std::vector<std::int32_t> experts_;
  std::vector<sched::ExpertEntry> back_;
  Totals totals_;
  DurationHistogram hold_times_;
  Trace* trace_ = nullptr;
  TraceTrack holds_track_;
  std::uint64_t trace_spans_ = 0;
};

}  // namespace gimbal::engine
