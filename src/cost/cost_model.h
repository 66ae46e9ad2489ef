#pragma once

#include "base/result.h"
#include "cost/hardware_profile.h"
#include "cost/model_shape.h"
#include "cost/tier.h"

namespace gimbal::cost {

// One rank's rows of one step, attention side.
struct RankWork {
  int prefill_rows = 0;
  int decodes = 0;
  double decode_context = 0;   // tokens that the decodes attend to, summed
  double prefill_context = 0;  // tokens that the prefill rows attend to, summed over rows
  int sampled = 0;             // tokens chosen at the end

  bool operator==(const RankWork&) const = default;
};

// Times, in ms, of one model on one kind of device. With the profile's names, R = Roofline::ms,
// n = prefill_rows + decodes and tp = attention_tp:
//
//   attention = layer_us + n·row_us + decodes·decode_us + R(weights/tp, 2·n·parameters/tp)
//             + decode_context·max(kv bytes/min(tp, kv_heads)/kv_gb_per_s·f,
//                                  flops a pair/tp/prefill_tflop_per_s)
//               (f = mixed_kv_factor where prefill_rows > 0, else 1)
//             + max + prefill_overlap_loss·min of
//                 prefill_context·flops a pair/tp/prefill_tflop_per_s and
//                 prefill_context/prefill_rows·prefill_key_us
//             + the all-reduce of n rows between tp ranks of a node (0 for tp = 1)
//   service   = layer_us + rows·row_us + distinct·expert_us
//             + R(distinct·bytes of an expert, 2·(rows + distinct·padding)·its parameters)
//   step      = step_us + n·row_us + sampled·sampled_us + R(head, 2·sampled·head parameters)
//
// Nothing takes less than 0. Value type, immutable; may be used by any number of threads.
class CostModel {
 public:
  // attention_tp: ranks that share one source's attention; kInvalidArgument: it does not divide the
  // model's heads.
  [[nodiscard]] static Result<CostModel> make(const ModelShape& model,
                                              const HardwareProfile& profile, int attention_tp = 1);

  // One MoE layer, with norms, router and shared expert. 0 for no rows.
  [[nodiscard]] double attention_ms(const RankWork& work) const;
  // One layer without experts, whole. 0 for no rows.
  [[nodiscard]] double dense_layer_ms(const RankWork& work) const;
  // One MoE layer's experts at one rank. rows: (token, expert) pairs that run there; distinct:
  // experts that they go to, which may be expected values, so fractions. 0 for no rows.
  [[nodiscard]] double service_ms(double rows, double distinct_experts) const;
  // One direction of one layer's rows. The ways out and in are used at the same time, so the longer
  // one counts. 0 for Tier::kOwnRank and for no bytes.
  [[nodiscard]] double exchange_ms(double bytes_out, double bytes_in, Tier tier) const;
  // What a token's rows add to the exchanges of all layers, there and back, when none of its
  // experts is at its own rank: by bandwidth alone, for latency is a message's and not a row's.
  [[nodiscard]] double exchange_ms_per_token(Tier tier) const;
  // Once a step: scheduling, launch, embedding, head, sampling.
  [[nodiscard]] double step_ms(const RankWork& work) const;
  // Moving weights between ranks while serving.
  [[nodiscard]] double move_ms(double bytes, Tier tier) const;

  [[nodiscard]] int layers() const { return model_.layers(); }
  [[nodiscard]] int moe_layers() const { return moe_layers_; }
  [[nodiscard]] const ModelShape& model() const { return model_; }
  [[nodiscard]] const HardwareProfile& profile() const { return profile_; }
  [[nodiscard]] int attention_tp() const { return attention_tp_; }

  // Tokens whose keys and values fit beside the weights, with `experts_held` expert copies of each
  // MoE layer at the rank and `memory_share` of the memory used. 0: the weights do not fit.
  [[nodiscard]] double kv_tokens(double experts_held, double memory_share = 0.9) const;

 private:
  CostModel(const ModelShape& model, const HardwareProfile& profile, int attention_tp);
  [[nodiscard]] double layer_ms(const RankWork& work, double parameters) const;
  [[nodiscard]] double context_ms(const RankWork& work) const;
  [[nodiscard]] double all_reduce_ms(double rows) const;

  ModelShape model_;
  HardwareProfile profile_;
  int attention_tp_ = 1;
  int moe_layers_ = 0;
  double expert_bytes_ = 0;  // as the device reads them
};

}  // namespace gimbal::cost
