#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "policy/batch_former.h"

namespace gimbal::policy {

enum class Who : std::uint8_t { kAll, kLatencySensitive, kBestEffort };

inline bool matches(Who who, bool best_effort) {
  return who == Who::kAll || (who == Who::kBestEffort) == best_effort;
}

// A batch former's decision in the making: grants rows within what the view allows. Refers to view
// and decision, which must outlive it.
class Forming {
 public:
  Forming(const BatchView& view, int max_sequences, BatchDecision& decision)
      : view_(view), decision_(decision), rows_left_(view.max_rows), free_pages_(view.free_pages) {
    decision.grants.clear();
    decision.best_effort_owed = decision.steps_without_prefill = 0;
    decision.head_lacks_pages = false;
    decision.grant_of.assign(view.running.size() + view.waiting.size(), -1);
    slots_ = max_sequences - static_cast<int>(view.running.size());
    for (const RunningSequence& sequence : view.running) {
      if (sequence.prefill_left > 0) continue;
      ++decodes_;
      sensitive_decodes_ += sequence.best_effort ? 0 : 1;
      --free_pages_;
    }
  }

  [[nodiscard]] int decodes() const { return decodes_; }
  [[nodiscard]] int sensitive_decodes() const { return sensitive_decodes_; }
  [[nodiscard]] int rows_left() const { return rows_left_; }
  void limit_rows(int rows) { rows_left_ = std::min(rows_left_, rows); }

  // One row for each decode that has none yet, at most `limit`; the least recently served ones if
  // that is too few. Returns the rows granted, as the others do.
  int grant_decodes(Who who, int limit) {
    limit = std::min(limit, rows_left_);
    if (limit <= 0 || decodes_ == 0) return 0;
    std::vector<int>& candidates = decision_.least_recent;
    candidates.clear();
    for (int i = 0; i < static_cast<int>(view_.running.size()); ++i) {
      const RunningSequence& sequence = view_.running[i];
      if (sequence.prefill_left == 0 && matches(who, sequence.best_effort) && granted(i) == 0) {
        candidates.push_back(i);
      }
    }
    if (static_cast<int>(candidates.size()) > limit) {
      std::sort(candidates.begin(), candidates.end(), [this](int a, int b) {
        const auto served = [this](int i) { return view_.running[i].last_served; };
        return served(a) != served(b) ? served(a) < served(b) : a < b;
      });
      candidates.resize(static_cast<std::size_t>(limit));
    }
    for (const int i : candidates)
      grant(i, 1);
    return static_cast<int>(candidates.size());
  }

  // Chunks of the prompts that have been admitted, in order of admission.
  int grant_running_prefill(Who who, int limit) {
    limit = std::min(limit, rows_left_);
    int used = 0;
    for (int i = 0; i < static_cast<int>(view_.running.size()) && used < limit; ++i) {
      const RunningSequence& sequence = view_.running[i];
      if (!matches(who, sequence.best_effort)) continue;
      const int rows = std::min(sequence.prefill_left - granted(i), limit - used);
      if (sequence.prefill_left == 0 || rows <= 0) continue;
      grant(i, rows);
      used += rows;
    }
    return used;
  }

  // Admits heads in the view's order and grants them chunks. The first that does not fit ends it.
  int grant_waiting(Who who, int limit) {
    limit = std::min(limit, rows_left_);
    int used = 0;
    for (int i = 0; i < static_cast<int>(view_.waiting.size()) && used < limit; ++i) {
      if (!matches(who, view_.waiting[i].best_effort)) continue;
      if (admitted(i)) {  // on the best-effort share: more rows of the same prompt
        const int slot = static_cast<int>(view_.running.size()) + i;
        const int more = std::min(view_.waiting[i].prefill - granted(slot), limit - used);
        if (more > 0) grant(slot, more);
        used += std::max(more, 0);
        continue;
      }
      if (!admit(i)) break;
      const int rows = std::min(view_.waiting[i].prefill, limit - used);
      grant(static_cast<int>(view_.running.size()) + i, rows);
      used += rows;
    }
    return used;
  }

  // Admits waiting[i] if a slot and its pages are free, `spare` more staying free; needs a grant
  // right after. If not, nothing else is admitted any more, unless `blocking` is false.
  bool admit(int i, int spare = 0, bool blocking = true) {
    if (closed_) return false;
    const bool fits = slots_ > 0 && view_.waiting[i].pages + spare <= free_pages_;
    if (slots_ > 0 && !fits && i == 0 && !view_.waiting[i].best_effort) {
      decision_.head_lacks_pages = true;
    }
    if (fits) {
      --slots_;
      free_pages_ -= view_.waiting[i].pages;
    } else if (blocking) {
      closed_ = true;
    }
    return fits;
  }

  // Gives sequence `index` (running ones first, then waiting ones) more rows.
  void grant(int index, int rows) {
    GIMBAL_DCHECK(rows > 0 && rows <= rows_left_);
    rows_left_ -= rows;
    int& place = decision_.grant_of[static_cast<std::size_t>(index)];
    if (place < 0) {
      place = static_cast<int>(decision_.grants.size());
      const int running = static_cast<int>(view_.running.size());
      const bool waiting = index >= running;
      decision_.grants.push_back({waiting ? index - running : index, waiting, 0});
    }
    decision_.grants[static_cast<std::size_t>(place)].rows += rows;
  }

  [[nodiscard]] bool admitted(int i) const {
    return granted(static_cast<int>(view_.running.size()) + i) > 0;
  }

 private:
  [[nodiscard]] int granted(int index) const {
    const int place = decision_.grant_of[static_cast<std::size_t>(index)];
    return place < 0 ? 0 : decision_.grants[static_cast<std::size_t>(place)].rows;
  }

  const BatchView& view_;
  BatchDecision& decision_;
  int rows_left_;
  int free_pages_;  // beside one for each running decode
  int slots_ = 0;
  int decodes_ = 0;
  int sensitive_decodes_ = 0;
  bool closed_ = false;
};

}  // namespace gimbal::policy
