#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "policy/step_forecast.h"

namespace gimbal::policy {

// What a dispatcher knows of the request that it places: one choice, or the choices of one API
// request, which go to one engine.
struct DispatchRequest {
  double prompt_tokens = 1;  // p, of all choices; what they share counts once
  double first_tokens = 1;   // of the first choice
  double prompt_pages = 1;   // KV pages that the prompts take without prefix hits
  int choices = 1;
  bool best_effort = false;
  std::optional<int> pinned;             // the only engine that it may go to
  std::optional<int> last_engine;        // of the same user, while it is remembered
  double return_probability = 0.5;       // P: that this user comes back within the session
  std::optional<double> mean_return_ms;  // of those who came back

  bool operator==(const DispatchRequest&) const = default;
};

// How much of an engine's snapshot can be believed (docs/design/0009).
enum class Freshness : std::uint8_t {
  kFresh,       // at most 2 predicted steps old, or of an idle engine
  kStale,       // older: what waits is taken to have drained at the measured rate since
  kLedgerOnly,  // older than max(1 s, 8 steps): only what the dispatcher itself sent counts
  kExcluded,    // the engine failed, or a probe of it did: not a candidate for now
};

// Requests that the dispatcher sent to an engine.
struct LedgerCounts {
  // Of them those that the engine's newest snapshot cannot contain yet.
  double unseen_requests = 0;
  double unseen_prefill_tokens = 0;              // uncached prompt tokens
  double unseen_best_effort_prefill_tokens = 0;  // of the line above
  double unseen_pages = 0;
  // All that have not ended.
  double requests = 0;
  double prefill_tokens = 0;  // uncached prompt tokens of those without a first token
  double decodes = 0;         // those with one

  bool operator==(const LedgerCounts&) const = default;
};

// One engine as a rule sees it. nullopt is unknown, which is never taken for 0: a rule that needs
// the value takes the mean of the engines that know it, so that not knowing neither draws requests
// nor repels them.
struct EngineView {
  Freshness freshness = Freshness::kFresh;
  double age_ms = 0;  // of the snapshot; 0 for an idle engine
  bool room = true;   // its queue can take the request; for late binding: it would start soon
  int group = -1;     // engines of one group share experts and pace each other; -1: alone
  LedgerCounts ledger;
  double hit_tokens = 0;    // prompt tokens of this request that its prefix cache holds
  double cached_pages = 0;  // pages in its prefix index
  // As `vllm` sees it: counts refreshed every 100 ms, with what was sent since.
  double counted_waiting = 0;
  double counted_running = 0;

  std::optional<double> pages_total;
  std::optional<double> pages_referenced;
  double page_tokens = 16;
  std::optional<double> running_prefill_tokens;  // R
  double step_prefill_tokens = 0;  // of the line above, what the running step computes
  std::optional<double> waiting_prefill_tokens;              // W, both classes
  std::optional<double> waiting_best_effort_prefill_tokens;  // of the line above
  // Of the waiting ones, those that the engine's order runs before this request.
  std::optional<double> waiting_ahead_tokens;
  std::optional<double> waiting_requests;
  std::optional<double> running_requests;
  std::optional<double> decodes;          // D
  std::optional<double> decode_context;   // C
  std::optional<double> residual_ms;      // predicted rest of the running step
  std::optional<double> expert_pressure;  // rho; withheld: nullopt
  std::optional<double> output_tokens;    // o: EWMA of finished lengths
  std::optional<double> pages_freed_per_ms;
  std::optional<double> pages_evicted_per_ms;   // cached pages that gave way to others
  std::optional<double> prefill_tokens_per_ms;  // measured
  std::optional<double> recompute_ms;           // kappa: EWMA of what one recompute costs
  std::optional<double> local_share;  // of this user's expert rows, that are local to the engine
  std::optional<StepCosts> costs;     // fitted
  PrefillBudget budget;

  // K: referenced pages, and those that the ledger's unseen requests will take, of all; at most 1.
  [[nodiscard]] std::optional<double> kv_usage() const;
};

struct DispatchView {
  DispatchRequest request;
  std::span<const EngineView> engines;  // at least one
  std::uint64_t turn = 0;               // decisions so far: whose turn it is
  std::uint64_t random = 0;             // uniform bits of this decision
};

// Why an engine was taken, or none yet.
enum class DispatchReason : std::uint8_t {
  kOnly,        // no other candidate
  kBest,        // the lowest score, by more than the tie band
  kTie,         // within the tie band of the best, and the least ledger of those
  kTieRandom,   // of equals by score and ledger
  kFailOpen,    // every engine was excluded: the least ledger
  kAllFull,     // v1: every KV cache is above the limit: the least usage
  kKvSpread,    // v1: KV usage differs too much: the least
  kLoadSpread,  // v1: running load differs too much: the least
  kUser,        // v1: where this user was last
  kLeastLoad,   // v1: none of that
  kTurn,        // round-robin
  kRandom,      // random, power-of-two with equal loads
  kPrefix,      // cache-aware: the longest prefix
  kMostRoom,    // cache-aware: no prefix is long enough: the emptiest cache
  kImbalance,   // cache-aware: loads differ too much: the least
  // Late binding, none was taken (late_binding.h):
  kHeldForWork,   // every engine has too much to run before it
  kHeldForPages,  // one that has not lacks pages
};
[[nodiscard]] std::string_view to_string(DispatchReason reason);
inline constexpr int kDispatchReasons = static_cast<int>(DispatchReason::kHeldForPages) + 1;

// An engine's score; what it means is the rule's matter. Lower is better.
struct EngineScore {
  bool candidate = false;
  double score = 0;
  // Of gimbal's score, in ms: TTFT, lambda·o·ΔTPOT, omega·Ext, the price of a full cache, and −V.
  std::array<double, 5> parts{};

  bool operator==(const EngineScore&) const = default;
};

// Reused from call to call, so that choosing allocates nothing.
struct DispatchDecision {
  int engine = -1;  // index into DispatchView::engines
  DispatchReason reason = DispatchReason::kOnly;
  std::vector<EngineScore> scores;  // one an engine
  // Work space: content means nothing.
  std::vector<int> candidates;
  std::vector<int> members;
  std::vector<RankLoad> loads;
  GroupForecast forecast;
};

// Chooses an engine for a request. Every rule leaves out excluded engines and those without room;
// if that leaves none it fails open to the least ledger of those with room, or of all. gimbal,
// gimbal-v2 and gimbal-v1 never take an engine whose KV usage is known to be above `kv_limit` while
// there is another. Stateless; thread-safe.
class Dispatch {
 public:
  virtual ~Dispatch() = default;

  // Overwrites `decision`. A function of the view. Requires: at least one engine; those of a group
  // stand side by side; numbers are finite.
  virtual void choose(const DispatchView& view, DispatchDecision& decision) const = 0;
};

// What gimbal-v1 calls the running load.
enum class RunningLoad : std::uint8_t {
  kUncomputed,  // R + W: prompt tokens still to compute
  kContext,     // tokens of context held
};

struct DispatchOptions {
  double kv_limit = 0.9;  // (0, 1]
  // gimbal
  double lambda = 0.5;               // weight of the time between tokens; >= 0
  double omega = 0.25;               // weight of others' delay; >= 0
  double tie_ms = 5;                 // delta = max(tie_ms, tie_fraction · |best|); >= 0
  double tie_fraction = 0.03;        // >= 0
  double exchange_ms_per_token = 0;  // what a token's expert exchange costs; >= 0
  double first_output_tokens = 256;  // stands for o in W_kv alone, while o is unknown; > 0
  int shortlist = 64;  // of more engines than that only those with the least work ahead; >= 1
  StepCosts first_costs{.fitted = {.attention = {1.0, 0.1, 0.1, 0.0, 0.0}, .service = {}},
                        .experts = {}};  // until something is fitted on any engine
  // gimbal-v2
  double weight_running = 1;   // w_R; these four >= 0
  double weight_waiting = 1;   // w_W
  double weight_kv = 1;        // w_K
  double weight_experts = 1;   // w_M
  double batch_tokens = 2048;  // B; > 0
  // gimbal-v1
  double kv_spread = 0.10;    // >= 0
  double load_spread = 3000;  // tokens; >= 0
  RunningLoad running_load = RunningLoad::kUncomputed;
  // cache-aware
  double cache_threshold = 0.3;   // of the prompt; [0, 1]
  double balance_absolute = 64;   // requests; >= 0
  double balance_relative = 1.5;  // >= 1
};

// A field out of range, as an error that names it.
[[nodiscard]] Result<void> check_dispatch_options(const DispatchOptions& options);

// By name (p prompt tokens, hit prefix hits, u = max(1, p − hit), R and W as above with the
// ledger's unseen requests added to W, requests = running + waiting + unseen):
//   gimbal          engines with K above the limit are dropped unless all are; lowest J wins, ms:
//                   J = TTFT + lambda·o·(TPOT − min TPOT) + omega·Ext
//                       + kappa·max(0, K + need/capacity − limit)/0.1 − V
//                   TTFT = residual + W_kv + T(ahead + u); for T and Ext see step_forecast.h
//                   W_kv = 0 if pages fit, else (need − free) / max(freeing rate, held/(o·TPOT))
//                   V = P·(p + o)·c1·survival + o·exchange·(local share − its mean). o and c1
//                   are means over the engines: how long an answer gets does not depend on who
//                   gives it (W_kv, of what the engine holds, has its own o). Survival, that
//                   pages outlast the user's mean return time:
//                   1 − exp(−free / (evicted per ms · return ms)).
//                   Within delta of the best: the least ledger, then a random one. Of more engines
//                   than `shortlist` those with the least residual + c1·(R + W + u), R what
//                   the running step leaves of it, are scored, by
//                   the best of each group; of equal ones those with the fewest requests an engine.
//   gimbal-v2       lowest of w_R·R/B + w_W·W/B + w_K·φ(K) + w_M·max(0, rho − 1), φ(K) = K up to
//                   0.9, then 0.9 + 10(K − 0.9); K above the limit as in gimbal (Gimbal v2)
//   gimbal-v1       K above the limit dropped (all: least K); KV spread: least K; load spread:
//                   least load; the user's last engine; least load (Gimbal v1)
//   vllm            lowest of 4·waiting + running of the counts that are 100 ms old, rotating start
//   round-robin     in turn
//   least-requests  fewest requests
//   least-prefill   lowest R + W
//   lmetric         lowest u · requests
//   cache-aware     if max load − min > balance_absolute and max > balance_relative·min the least
//                   load, else the longest prefix if it is above the threshold of the prompt, else
//                   the cache with the fewest pages (SGLang's router); load: requests
//   random          any
//   power-of-two    of two random ones the one with fewer requests
// Equal scores go to the least ledger and then, from gimbal to a random one, else to the next in
// turn. An unknown name or an option out of range is kInvalidArgument.
[[nodiscard]] Result<std::unique_ptr<Dispatch>> make_dispatch(std::string_view name,
                                                              const DispatchOptions& options);
[[nodiscard]] std::vector<std::string_view> dispatch_names();

}  // namespace gimbal::policy
