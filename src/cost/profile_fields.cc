#include "cost/profile_fields.h"

namespace gimbal::cost {
namespace {

constexpr double kMostMicroseconds = 1e9;
constexpr double kLeastRate = 1e-6;  // keeps times finite
constexpr double kMostRate = 1e9;

ProfileField time(std::string_view section, std::string_view name, double& value) {
  return {section, "", name, 0, kMostMicroseconds, value};
}

ProfileField rate(std::string_view section, std::string_view name, double& value) {
  return {section, "", name, kLeastRate, kMostRate, value};
}

void add_roofline(std::vector<ProfileField>& fields, std::string_view section,
                  std::string_view name, Roofline& roofline) {
  fields.push_back(
      {section, name, "stream_gb_per_s", kLeastRate, kMostRate, roofline.stream_gb_per_s});
  fields.push_back(
      {section, name, "compute_tflop_per_s", kLeastRate, kMostRate, roofline.compute_tflop_per_s});
  fields.push_back({section, name, "overlap_loss", 0, 1, roofline.overlap_loss});
}

}  // namespace

std::vector<ProfileField> fields_of(HardwareProfile& profile) {
  std::vector<ProfileField> fields;
  fields.push_back(rate("", "memory_gb", profile.memory_gb));
  AttentionCost& attention = profile.attention;
  fields.push_back(time("attention", "layer_us", attention.layer_us));
  fields.push_back(time("attention", "row_us", attention.row_us));
  fields.push_back(time("attention", "decode_us", attention.decode_us));
  fields.push_back(rate("attention", "kv_gb_per_s", attention.kv_gb_per_s));
  fields.push_back({"attention", "", "mixed_kv_factor", 0.01, 100, attention.mixed_kv_factor});
  fields.push_back(rate("attention", "prefill_tflop_per_s", attention.prefill_tflop_per_s));
  fields.push_back(time("attention", "prefill_key_us", attention.prefill_key_us));
  fields.push_back({"attention", "", "prefill_overlap_loss", 0, 1, attention.prefill_overlap_loss});
  add_roofline(fields, "attention", "projections", attention.projections);
  ExpertCost& experts = profile.experts;
  fields.push_back(time("experts", "layer_us", experts.layer_us));
  fields.push_back(time("experts", "row_us", experts.row_us));
  fields.push_back(time("experts", "expert_us", experts.expert_us));
  fields.push_back(
      {"experts", "", "padding_rows_per_expert", 0, 4096, experts.padding_rows_per_expert});
  add_roofline(fields, "experts", "products", experts.products);
  StepCost& step = profile.step;
  fields.push_back(time("step", "step_us", step.step_us));
  fields.push_back(time("step", "row_us", step.row_us));
  fields.push_back(time("step", "sampled_us", step.sampled_us));
  add_roofline(fields, "step", "head", step.head);
  fields.push_back(time("same_node", "latency_us", profile.same_node.latency_us));
  fields.push_back(rate("same_node", "gb_per_s", profile.same_node.gb_per_s));
  fields.push_back(rate("same_node", "move_gb_per_s", profile.move_gb_per_s_same_node));
  fields.push_back(time("other_node", "latency_us", profile.other_node.latency_us));
  fields.push_back(rate("other_node", "gb_per_s", profile.other_node.gb_per_s));
  fields.push_back(rate("other_node", "move_gb_per_s", profile.move_gb_per_s_other_node));
  return fields;
}

}  // namespace gimbal::cost
