#include "sched/outstanding_rows.h"

#include <utility>

#include "base/check.h"

namespace gimbal::sched {
namespace {

constexpr std::int32_t kNobody = -1;

}  // namespace

OutstandingRows::OutstandingRows(const OutstandingRowsOptions& options) {
  GIMBAL_CHECK(options.max_slots >= 1 && options.max_outputs >= 1);
  slots_.resize(static_cast<std::size_t>(options.max_slots));
  waiting_.assign(static_cast<std::size_t>(options.max_outputs), kNobody);
}

const OutstandingRows::Slot& OutstandingRows::at(SourceSlot slot) const {
  const auto index = static_cast<std::size_t>(static_cast<std::uint32_t>(slot.value()));
  GIMBAL_CHECK(index < slots_.size());
  return slots_[index];
}

OutstandingRows::Slot& OutstandingRows::at(SourceSlot slot) {
  return const_cast<Slot&>(std::as_const(*this).at(slot));
}

void OutstandingRows::post(const ExpertPost& post) {
  if (post.rows.empty()) return;
  GIMBAL_CHECK(post.experts.size() % post.rows.size() == 0);
  const std::size_t k = post.experts.size() / post.rows.size();
  for (const PostedRow& row : post.rows) {
    Slot& slot = at(row.slot);
    GIMBAL_CHECK(row.epoch == slot.epoch, "a row of another epoch is posted");
    GIMBAL_CHECK(slot.missing == 0 || slot.map_version == post.map_version,
                 "a sequence has rows under two map versions");
    slot.map_version = post.map_version;
    slot.missing += static_cast<std::int32_t>(k);
    const auto first = static_cast<std::size_t>(static_cast<std::uint32_t>(row.first_output));
    GIMBAL_CHECK(first + k <= waiting_.size(), "more outputs than the source has room for");
    for (std::size_t output = first; output < first + k; ++output) {
      GIMBAL_CHECK(waiting_[output] == kNobody, "an output is awaited twice");
      waiting_[output] = row.slot.value();
    }
  }
  missing_ += static_cast<int>(post.experts.size());
}

void OutstandingRows::complete(std::span<const ExpertEntry> outputs, Completion& what) {
  what.complete.clear();
  what.dropped.clear();
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const ExpertEntry& entry = outputs[i];
    Slot& slot = at(entry.slot);
    if (entry.epoch != slot.epoch || entry.map_version != slot.map_version) {
      what.dropped.push_back(static_cast<int>(i));
      continue;
    }
    const auto output = static_cast<std::size_t>(static_cast<std::uint32_t>(entry.output));
    GIMBAL_CHECK(output < waiting_.size() && waiting_[output] == entry.slot.value(),
                 "an output that nobody waits for");
    waiting_[output] = kNobody;
    --missing_;
    if (--slot.missing == 0) what.complete.push_back(entry.slot);
  }
}

int OutstandingRows::drop(SourceSlot slot) {
  Slot& dropped = at(slot);
  ++dropped.epoch;
  const int forgotten = std::exchange(dropped.missing, 0);
  missing_ -= forgotten;
  if (forgotten > 0) {
    for (std::int32_t& waiting : waiting_) {
      if (waiting == slot.value()) waiting = kNobody;
    }
  }
  return forgotten;
}

void OutstandingRows::repost(SourceSlot slot, std::uint32_t map_version,
                             std::vector<std::int32_t>& outputs) {
  Slot& again = at(slot);
  ++again.epoch;
  again.map_version = map_version;
  outputs.clear();
  if (again.missing == 0) return;
  for (std::size_t output = 0; output < waiting_.size(); ++output) {
    if (waiting_[output] == slot.value()) outputs.push_back(static_cast<std::int32_t>(output));
  }
}

}  // namespace gimbal::sched
