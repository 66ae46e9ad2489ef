// The rule `gimbal`: predicted milliseconds (docs/design/0009).
#include <algorithm>
#include <cmath>
#include <tuple>

#include "policy/dispatch_candidates.h"
#include "policy/dispatch_rules.h"

namespace gimbal::policy {
namespace {

constexpr double kFullBand = 0.1;  // of KV usage above the limit: one recompute's price

// Where an engine's score says what.
enum Part : std::size_t { kTtft, kDecode, kOthers, kFull, kValue };

// What stands for the values that an engine does not know.
struct Means {
  double running = 0;
  double waiting = 0;
  double best_effort = 0;
  double decodes = 0;
  double decode_context = 0;
  double requests = 0;
  double usage = 0;
  double pages_total = 0;
  double residual = 0;
  double pressure = 1;
  double local_share = 0;
  std::optional<double> output;
  std::optional<double> freed;
  std::optional<double> evicted;
  std::optional<double> recompute;
  const StepCosts* costs = nullptr;
  double prefill_token_ms = 0;  // c1
};

class Mean {
 public:
  void add(const std::optional<double>& value) {
    if (!value) return;
    sum_ += *value;
    ++count_;
  }
  [[nodiscard]] std::optional<double> value() const {
    if (count_ == 0) return std::nullopt;
    return sum_ / count_;
  }
  [[nodiscard]] double value_or(double none) const { return count_ > 0 ? sum_ / count_ : none; }

 private:
  double sum_ = 0;
  int count_ = 0;
};

std::optional<double> decodes_of(const EngineView& engine) {
  return engine.freshness == Freshness::kLedgerOnly ? std::optional(engine.ledger.decodes)
                                                    : engine.decodes;
}

std::optional<double> context_of(const EngineView& engine) {
  return engine.freshness == Freshness::kLedgerOnly ? std::nullopt : engine.decode_context;
}

std::optional<double> residual_of(const EngineView& engine) {
  return engine.freshness == Freshness::kLedgerOnly ? std::nullopt : engine.residual_ms;
}

// What any candidate knows for all, the shortlist's as well as the others.
struct Fleet {
  std::optional<double> output;  // o
  const StepCosts* costs;        // of those that have fitted none
};

Fleet fleet_of(const DispatchView& view, const std::vector<int>& candidates,
               const DispatchOptions& options) {
  Mean output;
  const StepCosts* costs = nullptr;
  for (const int i : candidates) {
    const EngineView& engine = engine_at(view, i);
    output.add(engine.output_tokens);
    if (costs == nullptr && engine.costs) costs = &*engine.costs;
  }
  return {.output = output.value(), .costs = costs != nullptr ? costs : &options.first_costs};
}

Means means_of(const DispatchView& view, const std::vector<int>& candidates, const Fleet& fleet) {
  Mean running, waiting, best_effort, decodes, context, requests, usage, total, residual;
  Mean pressure, share, freed, evicted, recompute, token_ms;
  Means means;
  for (const int i : candidates) {
    const EngineView& engine = engine_at(view, i);
    running.add(tokens_after_step(engine));
    waiting.add(waiting_tokens(engine));
    best_effort.add(best_effort_tokens(engine));
    decodes.add(decodes_of(engine));
    context.add(context_of(engine));
    requests.add(requests_of(engine));
    usage.add(engine.kv_usage());
    total.add(engine.pages_total);
    residual.add(residual_of(engine));
    pressure.add(engine.expert_pressure);
    share.add(engine.local_share);
    freed.add(engine.pages_freed_per_ms);
    evicted.add(engine.pages_evicted_per_ms);
    recompute.add(engine.recompute_ms);
    if (engine.costs) token_ms.add(engine.costs->prefill_token_ms());
  }
  means.running = running.value_or(0);
  means.waiting = waiting.value_or(0);
  means.best_effort = best_effort.value_or(0);
  means.decodes = decodes.value_or(0);
  means.decode_context = context.value_or(0);
  means.requests = requests.value_or(0);
  means.usage = usage.value_or(0);
  means.pages_total = total.value_or(0);
  means.residual = residual.value_or(0);
  means.pressure = pressure.value_or(1);
  means.local_share = share.value_or(0);
  means.output = fleet.output;
  means.freed = freed.value();
  means.evicted = evicted.value();
  means.recompute = recompute.value();
  means.costs = fleet.costs;
  means.prefill_token_ms = token_ms.value_or(means.costs->prefill_token_ms());
  return means;
}

class Gimbal final : public Dispatch {
 public:
  explicit Gimbal(const DispatchOptions& options) : options_(options) {}

  void choose(const DispatchView& view, DispatchDecision& decision) const override {
    if (!collect_candidates(view, decision, options_.kv_limit)) return;
    const Fleet fleet = fleet_of(view, decision.candidates, options_);
    if (decision.candidates.size() > static_cast<std::size_t>(options_.shortlist)) {
      shorten(view, *fleet.costs, decision);
    }
    const Means means = means_of(view, decision.candidates, fleet);
    const std::size_t count = view.engines.size();
    for (std::size_t first = 0; first < count;) {
      const std::size_t end = group_end(view, first);
      bool wanted = false;
      for (std::size_t i = first; i < end; ++i)
        wanted = wanted || decision.scores[i].candidate;
      if (wanted) score_group(view, means, {first, end}, decision);
      first = end;
    }
    compare_decodes(decision);
    take_best(view, decision);
  }

 private:
  // One engine of a group that has been forecast.
  struct Place {
    const EngineView& engine;
    int rank;
    double group_requests;
  };

  struct Span {
    std::size_t first;
    std::size_t end;
  };

  static std::size_t group_end(const DispatchView& view, std::size_t first) {
    const int group = view.engines[first].group;
    std::size_t end = first + 1;
    while (group >= 0 && end < view.engines.size() && view.engines[end].group == group)
      ++end;
    return end;
  }

  // Milliseconds until the engine has run what it has and the request. nullopt: not known.
  [[nodiscard]] static std::optional<double> work_with(const DispatchRequest& request,
                                                       const EngineView& engine,
                                                       const StepCosts& unfitted) {
    const auto running = tokens_after_step(engine);
    const auto waiting = waiting_tokens(engine);
    if (!running || !waiting) return std::nullopt;
    const double uncached = std::max(1.0, request.prompt_tokens - engine.hit_tokens);
    const StepCosts& costs = engine.costs ? *engine.costs : unfitted;
    return residual_of(engine).value_or(0) +
           costs.prefill_token_ms() * (*running + *waiting + uncached);
  }

  // Leaves the candidates with the least work ahead, of equals those whose groups have the fewest
  // requests, in order of index. A rank without a step is as good as an idle group by its work.
  void shorten(const DispatchView& view, const StepCosts& unfitted,
               DispatchDecision& decision) const {
    constexpr double kUnknown = -1;
    std::vector<int>& candidates = decision.candidates;
    const auto score_of = [&](int i) -> double& { return score_at(decision, i).score; };
    const auto requests_with = [&](int i) -> double& {  // until parts are filled in
      return score_at(decision, i).parts[kOthers];
    };
    Mean known;
    for (const int i : candidates) {
      const auto work = work_with(view.request, engine_at(view, i), unfitted);
      known.add(work);
      score_of(i) = work.value_or(kUnknown);
    }
    for (const int i : candidates) {
      if (score_of(i) == kUnknown) score_of(i) = known.value_or(0);
    }
    for (auto first = candidates.begin(); first != candidates.end();) {
      const std::size_t end = group_end(view, static_cast<std::size_t>(*first));
      double least = score_of(*first);
      Mean requests;
      auto last = first;
      for (; last != candidates.end() && static_cast<std::size_t>(*last) < end; ++last) {
        least = std::min(least, score_of(*last));
        requests.add(requests_of(engine_at(view, *last)));
      }
      for (; first != last; ++first) {
        score_of(*first) = least;
        requests_with(*first) = requests.value_or(0);
      }
    }
    const auto before = [&](int a, int b) {
      return std::tuple(score_of(a), requests_with(a), a) <
             std::tuple(score_of(b), requests_with(b), b);
    };
    const auto keep = candidates.begin() + options_.shortlist;
    std::nth_element(candidates.begin(), keep, candidates.end(), before);
    for (auto left_out = keep; left_out != candidates.end(); ++left_out)
      score_at(decision, *left_out) = {};
    candidates.erase(keep, candidates.end());
    std::sort(candidates.begin(), candidates.end());
  }

  void score_group(const DispatchView& view, const Means& means, const Span& span,
                   DispatchDecision& decision) const {
    decision.loads.clear();
    double requests = 0;
    for (std::size_t i = span.first; i < span.end; ++i) {
      const EngineView& engine = view.engines[i];
      if (engine.freshness == Freshness::kExcluded) continue;
      decision.loads.push_back(load_of(engine, means));
      requests += requests_of(engine).value_or(means.requests);
    }
    decision.forecast.reset(decision.loads);
    int rank = 0;
    for (std::size_t i = span.first; i < span.end; ++i) {
      const EngineView& engine = view.engines[i];
      if (engine.freshness == Freshness::kExcluded) continue;
      if (decision.scores[i].candidate) {
        score(view.request, {engine, rank, requests}, means, decision.forecast, decision.scores[i]);
      }
      ++rank;
    }
  }

  [[nodiscard]] static RankLoad load_of(const EngineView& engine, const Means& means) {
    return {.costs = engine.costs ? *engine.costs : *means.costs,
            .budget = engine.budget,
            .backlog = tokens_after_step(engine).value_or(means.running) +
                       waiting_tokens(engine).value_or(means.waiting),
            .decodes = decodes_of(engine).value_or(means.decodes),
            .decode_context = context_of(engine).value_or(means.decode_context),
            .pressure = engine.expert_pressure.value_or(means.pressure)};
  }

  // Fills in the parts. kDecode holds o and the score TPOT until engines are compared.
  void score(const DispatchRequest& request, const Place& place, const Means& means,
             const GroupForecast& forecast, EngineScore& score) const {
    const EngineView& engine = place.engine;
    const double hit = std::min(engine.hit_tokens, request.prompt_tokens);
    const ForecastWork work{.ahead = ahead_of(request, engine, means),
                            .tokens = std::max(1.0, request.prompt_tokens - hit),
                            .position = hit};
    const double tpot = forecast.decode_step_ms(place.rank, request.prompt_tokens);
    const std::optional<double> output = engine.output_tokens ? engine.output_tokens : means.output;

    const double total = std::max(1.0, engine.pages_total.value_or(means.pages_total));
    const double usage = engine.kv_usage().value_or(means.usage);
    const double free = total * (1 - usage);
    const double need =
        std::max(0.0, request.prompt_pages - hit / std::max(1.0, engine.page_tokens));
    double wait = 0;
    if (const double missing = need - free; missing > 0 && means.pages_total > 0) {
      const double freed =
          engine.pages_freed_per_ms ? *engine.pages_freed_per_ms : means.freed.value_or(0);
      const double life_ms = output.value_or(options_.first_output_tokens) * tpot;
      const double rate = std::max(freed, life_ms > 0 ? usage * total / life_ms : 0.0);
      wait = rate > 0 ? missing / rate : 0;
    }
    score.parts[kTtft] =
        residual_of(engine).value_or(means.residual) + wait + forecast.finish_ms(place.rank, work);
    score.parts[kDecode] = means.output.value_or(0);
    score.score = tpot;
    const double delay = forecast.drain_with_ms(place.rank, work) - forecast.drain_ms();
    score.parts[kOthers] = options_.omega * std::max(0.0, delay) * place.group_requests;
    const double over = means.pages_total > 0 ? usage + need / total - options_.kv_limit : 0;
    const double recompute = engine.recompute_ms ? *engine.recompute_ms
                             : means.recompute   ? *means.recompute
                                                 : forecast.full_step_ms(place.rank);
    score.parts[kFull] = recompute * std::max(0.0, over) / kFullBand;
    score.parts[kValue] = -value_of_staying(request, engine, means, free);
  }

  // Prefill that the queue policy runs before the request; where its place is not known, all of its
  // class and above.
  [[nodiscard]] static double ahead_of(const DispatchRequest& request, const EngineView& engine,
                                       const Means& means) {
    const double waiting = waiting_tokens(engine).value_or(means.waiting);
    const double running = tokens_after_step(engine).value_or(means.running);
    const double best_effort =
        request.best_effort ? 0 : best_effort_tokens(engine).value_or(means.best_effort);
    const double of_class = std::max(0.0, waiting - best_effort);
    return running + std::min(of_class, tokens_ahead(request, engine).value_or(of_class));
  }

  // V: what this user's next request saves if the pages are still there, and the exchange that
  // experts on the engine itself save. What computing a token costs is the mean of all engines: the
  // next request goes to the best of them, and a slow engine is not worth more.
  [[nodiscard]] double value_of_staying(const DispatchRequest& request, const EngineView& engine,
                                        const Means& means, double free_pages) const {
    double value = 0;
    if (request.mean_return_ms) {
      const double evicted =
          engine.pages_evicted_per_ms ? *engine.pages_evicted_per_ms : means.evicted.value_or(0);
      const double lost = evicted * *request.mean_return_ms;
      const double survive = lost > 0 ? 1 - std::exp(-free_pages / lost) : 1.0;
      value = request.return_probability * (request.prompt_tokens + means.output.value_or(0)) *
              means.prefill_token_ms * survive;
    }
    if (options_.exchange_ms_per_token > 0) {
      value += means.output.value_or(0) * options_.exchange_ms_per_token *
               (engine.local_share.value_or(means.local_share) - means.local_share);
    }
    return value;
  }

  // λ·o·(TPOT − min TPOT), and the sum of all.
  void compare_decodes(DispatchDecision& decision) const {
    const double least = score_range(decision).least;
    for (const int i : decision.candidates) {
      EngineScore& score = score_at(decision, i);
      score.parts[kDecode] *= options_.lambda * (score.score - least);
      score.score = 0;
      for (const double part : score.parts)
        score.score += part;
    }
  }

  void take_best(const DispatchView& view, DispatchDecision& decision) const {
    int best = decision.candidates.front();
    const auto score_of = [&](int i) { return score_at(decision, i).score; };
    for (const int i : decision.candidates) {
      if (score_of(i) < score_of(best)) best = i;
    }
    const double band = std::max(options_.tie_ms, options_.tie_fraction * std::abs(score_of(best)));
    std::vector<int>& close = decision.members;
    close.clear();
    for (const int i : decision.candidates) {
      if (i == best || score_of(i) <= score_of(best) + band) close.push_back(i);
    }
    if (close.size() == 1) return take(decision, best, DispatchReason::kBest);
    const LedgerCounts least = engine_at(view, least_ledger(view, close)).ledger;
    std::erase_if(close, [&](int i) {
      const LedgerCounts& ledger = engine_at(view, i).ledger;
      return ledger.prefill_tokens != least.prefill_tokens || ledger.requests != least.requests;
    });
    if (close.size() == 1) return take(decision, close.front(), DispatchReason::kTie);
    take(decision, close[view.random % close.size()], DispatchReason::kTieRandom);
  }

  DispatchOptions options_;
};

}  // namespace

std::unique_ptr<Dispatch> make_gimbal_dispatch(const DispatchOptions& options) {
  return std::make_unique<Gimbal>(options);
}

}  // namespace gimbal::policy
