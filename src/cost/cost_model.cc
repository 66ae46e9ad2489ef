#include "cost/cost_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "cost/units.h"

namespace gimbal::cost {

Result<CostModel> CostModel::make(const ModelShape& model, const HardwareProfile& profile,
                                  int attention_tp) {
  if (attention_tp < 1 || model.heads % attention_tp != 0) {
    return invalid_argument(fmt::format("attention_tp must divide the {} heads of {}, is {}",
                                        model.heads, model.name, attention_tp),
                            "attention_tp");
  }
  return CostModel(model, profile, attention_tp);
}

CostModel::CostModel(const ModelShape& model, const HardwareProfile& profile, int attention_tp)
    : model_(model),
      profile_(profile),
      attention_tp_(attention_tp),
      moe_layers_(model.moe_layers()),
      expert_bytes_(model.expert_parameters *
                    profile.experts.bytes_per_parameter.value_or(model.bytes_per_parameter)) {}

double CostModel::attention_ms(const RankWork& work) const {
  return layer_ms(
      work, model_.attention_parameters + model_.router_parameters + model_.shared_parameters);
}

double CostModel::dense_layer_ms(const RankWork& work) const {
  return layer_ms(work, model_.attention_parameters + model_.dense_parameters);
}

double CostModel::layer_ms(const RankWork& work, double parameters) const {
  const double rows = work.prefill_rows + work.decodes;
  if (rows <= 0) return 0;
  const AttentionCost& cost = profile_.attention;
  const double share = parameters / attention_tp_;
  return (cost.layer_us + rows * cost.row_us + work.decodes * cost.decode_us) * kMsOfUs +
         cost.projections.ms(share * model_.bytes_per_parameter, 2 * rows * share) +
         context_ms(work) + all_reduce_ms(rows);
}

// Queries with the keys and values of their contexts.
double CostModel::context_ms(const RankWork& work) const {
  const AttentionCost& cost = profile_.attention;
  const double ms_of_flop = kMsOfTflop / cost.prefill_tflop_per_s / attention_tp_;
  const double kv_bytes = work.decode_context * model_.kv_values_per_token *
                          model_.bytes_per_kv_value / std::min(attention_tp_, model_.kv_heads);
  const double mixed = work.prefill_rows > 0 ? cost.mixed_kv_factor : 1.0;
  double ms = std::max(kv_bytes / cost.kv_gb_per_s * kMsOfGb * mixed,
                       work.decode_context * model_.decode_flops_per_pair * ms_of_flop);
  if (work.prefill_rows > 0) {
    const double products = work.prefill_context * model_.prefill_flops_per_pair * ms_of_flop;
    const double keys = work.prefill_context / work.prefill_rows * cost.prefill_key_us * kMsOfUs;
    ms += std::max(products, keys) + cost.prefill_overlap_loss * std::min(products, keys);
  }
  return ms;
}

// A ring: each rank sends and receives 2·(tp - 1)/tp of the rows, in 2·(tp - 1) messages.
double CostModel::all_reduce_ms(double rows) const {
  if (attention_tp_ == 1) return 0;
  const double hops = 2.0 * (attention_tp_ - 1);
  return hops * (profile_.same_node.latency_us * kMsOfUs +
                 rows * model_.row_bytes() / attention_tp_ / profile_.same_node.gb_per_s * kMsOfGb);
}

double CostModel::service_ms(double rows, double distinct_experts) const {
  GIMBAL_DCHECK(rows >= 0 && distinct_experts >= 0);
  if (rows <= 0) return 0;
  const ExpertCost& cost = profile_.experts;
  const double computed = rows + distinct_experts * cost.padding_rows_per_expert;
  return std::max(
      0.0, (cost.layer_us + rows * cost.row_us + distinct_experts * cost.expert_us) * kMsOfUs +
               cost.products.ms(distinct_experts * expert_bytes_,
                                2 * computed * model_.expert_parameters));
}

double CostModel::exchange_ms(double bytes_out, double bytes_in, Tier tier) const {
  const double bytes = std::max(bytes_out, bytes_in);
  if (tier == Tier::kOwnRank || bytes <= 0) return 0;
  const LinkCost& link = tier == Tier::kSameNode ? profile_.same_node : profile_.other_node;
  return link.latency_us * kMsOfUs + bytes / link.gb_per_s * kMsOfGb;
}

// Ranks that share a source's attention each send a part of its rows.
double CostModel::exchange_ms_per_token(Tier tier) const {
  if (tier == Tier::kOwnRank) return 0;
  const LinkCost& link = tier == Tier::kSameNode ? profile_.same_node : profile_.other_node;
  const double bytes = model_.experts_per_token * model_.row_bytes() / attention_tp_;
  return 2.0 * moe_layers_ * bytes / link.gb_per_s * kMsOfGb;
}

double CostModel::step_ms(const RankWork& work) const {
  const double rows = work.prefill_rows + work.decodes;
  if (rows <= 0) return 0;
  const StepCost& cost = profile_.step;
  double ms = (cost.step_us + rows * cost.row_us + work.sampled * cost.sampled_us) * kMsOfUs;
  if (work.sampled > 0) {
    const double share = model_.head_parameters / attention_tp_;
    ms += cost.head.ms(share * model_.bytes_per_parameter, 2 * work.sampled * share);
  }
  return ms;
}

double CostModel::move_ms(double bytes, Tier tier) const {
  if (tier == Tier::kOwnRank || bytes <= 0) return 0;
  const bool near = tier == Tier::kSameNode;
  return bytes / (near ? profile_.move_gb_per_s_same_node : profile_.move_gb_per_s_other_node) *
         kMsOfGb;
}

double CostModel::kv_tokens(double experts_held, double memory_share) const {
  const double bytes = profile_.memory_gb * 1e9 * memory_share -
                       model_.replicated_weight_bytes() / attention_tp_ -
                       moe_layers_ * experts_held * expert_bytes_;
  const double token = model_.kv_bytes_per_token() / std::min(attention_tp_, model_.kv_heads);
  return std::max(0.0, bytes / token);
}

}  // namespace gimbal::cost
