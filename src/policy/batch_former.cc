#include "policy/batch_former.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/check.h"

namespace gimbal::policy {
namespace {

enum class Who : std::uint8_t { kAll, kLatencySensitive, kBestEffort };

bool matches(Who who, bool best_effort) {
  return who == Who::kAll || (who == Who::kBestEffort) == best_effort;
}

// A decision in the making: grants rows within what the view allows.
class Forming {
 public:
  Forming(const BatchView& view, int max_sequences, BatchDecision& decision)
      : view_(view), decision_(decision), rows_left_(view.max_rows), free_pages_(view.free_pages) {
    decision.grants.clear();
    decision.grant_of.assign(view.running.size() + view.waiting.size(), -1);
    slots_ = max_sequences - static_cast<int>(view.running.size());
    for (const RunningSequence& sequence : view.running) {
      if (sequence.prefill_left > 0) continue;
      ++decodes_;
      --free_pages_;
    }
  }

  [[nodiscard]] int decodes() const { return decodes_; }
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
  bool closed_ = false;
};

class VllmFormer final : public BatchFormer {
 public:
  explicit VllmFormer(const BatchFormerOptions& /*options*/) {}

  void form(const BatchView& view, BatchDecision& decision) const override {
    Forming forming(view, view.max_sequences, decision);
    decision.best_effort_owed = 0;
    forming.grant_decodes(Who::kAll, view.max_rows);
    forming.grant_running_prefill(Who::kAll, view.max_rows);
    forming.grant_waiting(Who::kAll, view.max_rows);
  }
};

class TgiFormer final : public BatchFormer {
 public:
  explicit TgiFormer(const BatchFormerOptions& options) : max_batch_(options.tgi_max_batch) {}

  void form(const BatchView& view, BatchDecision& decision) const override {
    Forming forming(view, std::min(max_batch_, view.max_sequences), decision);
    decision.best_effort_owed = 0;
    forming.grant_running_prefill(Who::kAll, view.max_rows);
    admit_arrivals(view, forming);
    if (forming.rows_left() == view.max_rows) forming.grant_decodes(Who::kAll, view.max_rows);
  }

 private:
  // Merges the two classes' heads by arrival.
  static void admit_arrivals(const BatchView& view, Forming& forming) {
    const auto split = std::find_if(view.waiting.begin(), view.waiting.end(),
                                    [](const WaitingRequest& r) { return r.best_effort; });
    auto first = view.waiting.begin();
    auto second = split;
    while (first != split || second != view.waiting.end()) {
      const bool take_first =
          second == view.waiting.end() || (first != split && first->arrival <= second->arrival);
      const auto next = take_first ? first++ : second++;
      const bool alone = forming.rows_left() == view.max_rows;
      if (forming.rows_left() == 0 || (!alone && next->prefill > forming.rows_left())) return;
      const int index = static_cast<int>(next - view.waiting.begin());
      if (!forming.admit(index)) return;
      forming.grant(static_cast<int>(view.running.size()) + index,
                    std::min(next->prefill, forming.rows_left()));
    }
  }

  int max_batch_;
};

class GimbalFormer final : public BatchFormer {
 public:
  explicit GimbalFormer(const BatchFormerOptions& options) : options_(options) {}

  void form(const BatchView& view, BatchDecision& decision) const override {
    Forming forming(view, view.max_sequences, decision);
    const int prefill_budget = prefill_rows(view, forming.decodes());
    const int rows = static_cast<int>(
        std::min<std::int64_t>(view.max_rows, std::int64_t{forming.decodes()} + prefill_budget));
    forming.limit_rows(rows);

    Used best_effort = grant_share(view, forming, prefill_budget, rows);
    Used sensitive;
    sensitive.decodes = forming.grant_decodes(Who::kLatencySensitive, rows);
    sensitive.prefill =
        grant_prefill(forming, Who::kLatencySensitive, prefill_budget - best_effort.prefill);
    int filler = rows;
    if (sensitive.total() > 0) {
      filler = std::max(static_cast<int>(options_.best_effort_filler * rows),
                        options_.prefill_floor - sensitive.prefill) -
               best_effort.total();
    }
    const int more_decodes = forming.grant_decodes(Who::kBestEffort, filler);
    best_effort.decodes += more_decodes;
    best_effort.prefill += grant_prefill(
        forming, Who::kBestEffort,
        std::min(filler - more_decodes, prefill_budget - sensitive.prefill - best_effort.prefill));

    const double share = options_.best_effort_share * (sensitive.total() + best_effort.total());
    decision.best_effort_owed =
        has_best_effort(view) ? std::clamp(view.best_effort_owed + share - best_effort.total(), 0.0,
                                           static_cast<double>(view.max_rows))
                              : 0.0;
  }

 private:
  struct Used {
    int decodes = 0;
    int prefill = 0;
    [[nodiscard]] int total() const { return decodes + prefill; }
  };

  [[nodiscard]] int prefill_rows(const BatchView& view, int decodes) const {
    if (decodes == 0) return view.max_rows;
    const double wanted = std::ceil(static_cast<double>(view.backlog) / options_.drain_steps);
    const int floor = std::min(options_.prefill_floor, view.max_rows);
    return static_cast<int>(std::clamp<double>(wanted, floor, view.max_rows));
  }

  static bool has_best_effort(const BatchView& view) {
    return std::any_of(view.running.begin(), view.running.end(),
                       [](const RunningSequence& s) { return s.best_effort; }) ||
           (!view.waiting.empty() && view.waiting.back().best_effort);
  }

  static int grant_prefill(Forming& forming, Who who, int limit) {
    const int running = forming.grant_running_prefill(who, limit);
    return running + forming.grant_waiting(who, limit - running);
  }

  // What best-effort work is owed, before all else.
  [[nodiscard]] Used grant_share(const BatchView& view, Forming& forming, int prefill_budget,
                                 int rows) const {
    Used used;
    const int share =
        std::min(rows, static_cast<int>(view.best_effort_owed + options_.best_effort_share * rows));
    if (share == 0) return used;
    used.decodes = forming.grant_decodes(Who::kBestEffort, share);
    const int limit = std::min(share - used.decodes, prefill_budget);
    used.prefill = forming.grant_running_prefill(Who::kBestEffort, limit);
    const bool overdue = view.best_effort_owed >= view.max_rows;
    const bool sensitive_waits = !view.waiting.empty() && !view.waiting.front().best_effort;
    const int spare = sensitive_waits && !overdue ? view.waiting.front().pages : 0;
    for (int i = 0; i < static_cast<int>(view.waiting.size()) && used.prefill < limit; ++i) {
      if (!view.waiting[i].best_effort) continue;
      if (!forming.admit(i, spare, overdue)) break;
      const int chunk = std::min(view.waiting[i].prefill, limit - used.prefill);
      forming.grant(static_cast<int>(view.running.size()) + i, chunk);
      used.prefill += chunk;
    }
    return used;
  }

  BatchFormerOptions options_;
};

template <class Former>
std::unique_ptr<BatchFormer> make(const BatchFormerOptions& options) {
  return std::make_unique<Former>(options);
}

struct Entry {
  std::string_view name;
  std::unique_ptr<BatchFormer> (*make)(const BatchFormerOptions&);
};

constexpr std::array kFormers{
    Entry{"vllm", make<VllmFormer>},
    Entry{"tgi", make<TgiFormer>},
    Entry{"gimbal", make<GimbalFormer>},
};

Result<void> check(const BatchFormerOptions& options) {
  const auto wrong = [](std::string_view name, std::string_view expected, double value) {
    return invalid_argument(fmt::format("{} must be {}, is {}", name, expected, value),
                            std::string(name));
  };
  const auto fraction = [](double value) { return value >= 0 && value <= 1; };
  if (options.tgi_max_batch < 1) {
    return wrong("tgi_max_batch", "at least 1", options.tgi_max_batch);
  }
  if (!(options.drain_steps > 0)) return wrong("drain_steps", "above 0", options.drain_steps);
  if (options.prefill_floor < 1) {
    return wrong("prefill_floor", "at least 1", options.prefill_floor);
  }
  if (!fraction(options.best_effort_filler)) {
    return wrong("best_effort_filler", "in [0, 1]", options.best_effort_filler);
  }
  if (!fraction(options.best_effort_share)) {
    return wrong("best_effort_share", "in [0, 1]", options.best_effort_share);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<BatchFormer>> make_batch_former(std::string_view name,
                                                       const BatchFormerOptions& options) {
  GIMBAL_RETURN_IF_ERROR(check(options));
  for (const Entry& entry : kFormers) {
    if (entry.name == name) return entry.make(options);
  }
  return invalid_argument(fmt::format("batch former must be one of {}, is {}",
                                      fmt::join(batch_former_names(), ", "), name),
                          "former");
}

std::vector<std::string_view> batch_former_names() {
  std::vector<std::string_view> names;
  for (const Entry& entry : kFormers)
    names.push_back(entry.name);
  return names;
}

}  // namespace gimbal::policy
