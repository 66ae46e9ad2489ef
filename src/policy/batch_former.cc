#include "policy/batch_former.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "policy/forming.h"

namespace gimbal::policy {
namespace {

// The most rows in [0, limit] that `fits`, which holds for fewer rows if for more.
template <class Fits>
int most_rows(int limit, const Fits& fits) {
  if (fits(limit)) return limit;
  int good = 0;
  for (int bad = limit; bad - good > 1;) {
    const int middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

class VllmFormer final : public BatchFormer {
 public:
  explicit VllmFormer(const BatchFormerOptions& /*options*/) {}

  void form(const BatchView& view, BatchDecision& decision) const override {
    Forming forming(view, view.max_sequences, decision);
    forming.grant_decodes(Who::kAll, view.max_rows);
    forming.grant_running_prefill(Who::kAll, view.max_rows);
    forming.grant_waiting(Who::kAll, view.max_rows);
  }
};

class TgiFormer final : public BatchFormer {
 public:
  explicit TgiFormer(const BatchFormerOptions& options) : max_batch_(options.max_batch) {}

  void form(const BatchView& view, BatchDecision& decision) const override {
    Forming forming(view, std::min(max_batch_, view.max_sequences), decision);
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

class QllmFormer final : public BatchFormer {
 public:
  explicit QllmFormer(const BatchFormerOptions& options) : max_batch_(options.max_batch) {}

  void form(const BatchView& view, BatchDecision& decision) const override {
    Forming forming(view, view.max_sequences, decision);
    if (forming.sensitive_decodes() < max_batch_) grant_prefill(view, forming, decision, false);
    if (!decision.grants.empty()) return grant_prefill(view, forming, decision, true);
    forming.grant_decodes(Who::kLatencySensitive, max_batch_);
    forming.grant_decodes(Who::kBestEffort, max_batch_ - size(decision));
    if (decision.grants.empty()) grant_prefill(view, forming, decision, true);
  }

 private:
  static int size(const BatchDecision& decision) {
    return static_cast<int>(decision.grants.size());
  }

  // Prompts of a class, whole unless one is the step's first.
  void grant_prefill(const BatchView& view, Forming& forming, BatchDecision& decision,
                     bool best_effort) const {
    const auto running = static_cast<int>(view.running.size());
    const auto full = [&] { return size(decision) == max_batch_ || forming.rows_left() == 0; };
    for (int i = 0; i < running && !full(); ++i) {
      const RunningSequence& sequence = view.running[i];
      if (sequence.prefill_left == 0 || sequence.best_effort != best_effort) continue;
      forming.grant(i, std::min(sequence.prefill_left, forming.rows_left()));
    }
    for (int i = 0; i < static_cast<int>(view.waiting.size()) && !full(); ++i) {
      const WaitingRequest& head = view.waiting[i];
      if (head.best_effort != best_effort) continue;
      const bool first = decision.grants.empty();
      if ((!first && head.prefill > forming.rows_left()) || !forming.admit(i)) return;
      forming.grant(running + i, std::min(head.prefill, forming.rows_left()));
    }
  }

  int max_batch_;
};

class GimbalFormer final : public BatchFormer {
 public:
  explicit GimbalFormer(const BatchFormerOptions& options) : options_(options) {}

  [[nodiscard]] bool evicts_for_heads() const override { return true; }

  void form(const BatchView& view, BatchDecision& decision) const override {
    Forming forming(view, view.max_sequences, decision);
    const int floor = prefill_floor(view, forming);
    const int wanted = wanted_prefill(view, forming, floor);
    const int prefill_budget = view.prefill_budget ? planned_prefill(view, forming)
                                                   : prefill_in_time(view, forming, wanted);
    const int rows = static_cast<int>(
        std::min<std::int64_t>(view.max_rows, std::int64_t{forming.decodes()} + prefill_budget));
    forming.limit_rows(rows);

    // What little the target leaves is not for best-effort prompts alone.
    const int share_prefill = prefill_budget < wanted ? (prefill_budget + 1) / 2 : prefill_budget;
    Used best_effort = grant_share(view, forming, share_prefill, rows);
    Used sensitive;
    sensitive.decodes = forming.grant_decodes(Who::kLatencySensitive, rows);
    sensitive.prefill =
        grant_prefill(forming, Who::kLatencySensitive, prefill_budget - best_effort.prefill);
    int filler = rows;
    if (sensitive.total() > 0) {
      filler = std::max(static_cast<int>(options_.best_effort_filler * rows),
                        floor - sensitive.prefill) -
               best_effort.total();
    }
    const int more_decodes = forming.grant_decodes(Who::kBestEffort, filler);
    best_effort.decodes += more_decodes;
    best_effort.prefill += grant_prefill(
        forming, Who::kBestEffort,
        std::min(filler - more_decodes, prefill_budget - sensitive.prefill - best_effort.prefill));

    // Overdue best-effort heads come first, also to pages that an eviction would free.
    if (overdue(view)) decision.head_lacks_pages = false;
    const double share = options_.best_effort_share * (sensitive.total() + best_effort.total());
    if (wants_more(view, best_effort.total())) {
      decision.best_effort_owed = std::clamp(view.best_effort_owed + share - best_effort.total(),
                                             0.0, static_cast<double>(view.max_rows));
    }
    if (view.backlog > 0 && sensitive.prefill + best_effort.prefill == 0) {
      decision.steps_without_prefill = view.steps_without_prefill + 1;
    }
  }

 private:
  struct Used {
    int decodes = 0;
    int prefill = 0;
    [[nodiscard]] int total() const { return decodes + prefill; }
  };

  // The step with all decodes that fit and `prefill` rows.
  [[nodiscard]] static StepShape shape(const BatchView& view, const Forming& forming, int prefill) {
    StepShape shape;
    shape.decodes = std::min(forming.decodes(), view.max_rows);
    shape.decode_context = static_cast<double>(view.decode_context);
    shape.add_prefill(view.prefill_position, prefill);
    return shape;
  }

  [[nodiscard]] int prefill_floor(const BatchView& view, const Forming& forming) const {
    if (options_.prefill_floor) return *options_.prefill_floor;
    if (view.times == nullptr || !view.times->fitted() || forming.decodes() == 0) {
      return kUnfittedFloor;
    }
    const StepShape decodes = shape(view, forming, 0);
    const double hidden =
        std::max(kHiddenShare * view.times->step_ms(decodes), view.times->mixing_ms(decodes));
    const auto hides = [&](int rows) {
      return view.times->prefill_compute_ms(shape(view, forming, rows)) <= hidden;
    };
    return std::max(view.page_tokens, most_rows(kMostFloor, hides));
  }

  [[nodiscard]] int wanted_prefill(const BatchView& view, const Forming& forming, int floor) const {
    if (forming.decodes() == 0) return view.max_rows;
    const double wanted = std::ceil(static_cast<double>(view.backlog) / options_.drain_steps);
    return static_cast<int>(
        std::clamp<double>(wanted, std::min(floor, view.max_rows), view.max_rows));
  }

  [[nodiscard]] static int planned_prefill(const BatchView& view, const Forming& forming) {
    const int least = forming.decodes() == 0 ? view.page_tokens : 0;
    return std::clamp(*view.prefill_budget, std::min(least, view.max_rows), view.max_rows);
  }

  // Of `rows`, what the target leaves.
  [[nodiscard]] int prefill_in_time(const BatchView& view, const Forming& forming, int rows) const {
    const bool bounded = options_.target_itl_ms > 0 && forming.decodes() > 0;
    if (!bounded || view.times == nullptr || !view.times->fitted()) return rows;
    const auto in_time = [&](int prefill) {
      return view.times->step_ms(shape(view, forming, prefill)) <= options_.target_itl_ms;
    };
    const bool page =
        forming.sensitive_decodes() == 0 || view.steps_without_prefill >= kMostWithoutPrefill;
    return std::max(most_rows(rows, in_time), page ? std::min(rows, view.page_tokens) : 0);
  }

  static bool overdue(const BatchView& view) { return view.best_effort_owed >= view.max_rows; }

  // Whether best-effort work could have run more rows than these. What it cannot run is not owed.
  static bool wants_more(const BatchView& view, int rows) {
    if (!view.waiting.empty() && view.waiting.back().best_effort) return true;
    std::int64_t could_run = 0;
    for (const RunningSequence& sequence : view.running) {
      if (sequence.best_effort) could_run += std::max(1, sequence.prefill_left);
    }
    return rows < could_run;
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
    const bool sensitive_waits = !view.waiting.empty() && !view.waiting.front().best_effort;
    const int spare = sensitive_waits && !overdue(view) ? view.waiting.front().pages : 0;
    for (int i = 0; i < static_cast<int>(view.waiting.size()) && used.prefill < limit; ++i) {
      if (!view.waiting[i].best_effort) continue;
      if (!forming.admit(i, spare, overdue(view))) break;
      const int chunk = std::min(view.waiting[i].prefill, limit - used.prefill);
      forming.grant(static_cast<int>(view.running.size()) + i, chunk);
      used.prefill += chunk;
    }
    return used;
  }

  static constexpr int kUnfittedFloor = 64;
  static constexpr int kMostFloor = 2048;
  static constexpr double kMostWithoutPrefill = 8;  // steps, under a target
  static constexpr double kHiddenShare = 0.25;      // of a step with decodes alone

  BatchFormerOptions options_;
};

template <class Former>
std::unique_ptr<BatchFormer> make(const BatchFormerOptions& options) {
  return std::make_unique<Former>(options);
}

struct NamedFormer {
  std::string_view name;
  std::unique_ptr<BatchFormer> (*make)(const BatchFormerOptions&);
};

constexpr std::array kFormers{
    NamedFormer{"vllm", make<VllmFormer>},
    NamedFormer{"tgi", make<TgiFormer>},
    NamedFormer{"qllm", make<QllmFormer>},
    NamedFormer{"gimbal", make<GimbalFormer>},
};

Result<void> check(const BatchFormerOptions& options) {
  const auto wrong = [](std::string_view name, std::string_view expected, double value) {
    return invalid_argument(fmt::format("{} must be {}, is {}", name, expected, value),
                            std::string(name));
  };
  const auto fraction = [](double value) { return value >= 0 && value <= 1; };
  if (options.max_batch < 1) {
    return wrong("max_batch", "at least 1", options.max_batch);
  }
  if (!(options.drain_steps > 0)) return wrong("drain_steps", "above 0", options.drain_steps);
  if (options.prefill_floor && *options.prefill_floor < 1) {
    return wrong("prefill_floor", "at least 1", *options.prefill_floor);
  }
  if (!(options.target_itl_ms >= 0) || !std::isfinite(options.target_itl_ms)) {
    return wrong("target_itl_ms", "at least 0", options.target_itl_ms);
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
  for (const NamedFormer& entry : kFormers) {
    if (entry.name == name) return entry.make(options);
  }
  return invalid_argument(fmt::format("batch former must be one of {}, is {}",
                                      fmt::join(batch_former_names(), ", "), name),
                          "former");
}

std::vector<std::string_view> batch_former_names() {
  std::vector<std::string_view> names;
  for (const NamedFormer& entry : kFormers)
    names.push_back(entry.name);
  return names;
}

}  // namespace gimbal::policy
