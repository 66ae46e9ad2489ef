#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "cost/tier.h"

namespace gimbal::cost {

// A roofline with two slopes: reading takes bytes / stream, computing flops / compute, and both
// together the longer one plus `overlap_loss` of the shorter (0: hidden, 1: one after the other).
struct Roofline {
  double stream_gb_per_s = 0;      // 10^9 bytes a second; > 0
  double compute_tflop_per_s = 0;  // 10^12 multiplications and additions a second; > 0
  double overlap_loss = 0;         // [0, 1]

  [[nodiscard]] double ms(double bytes, double flops) const;
  bool operator==(const Roofline&) const = default;
};

// Attention side of one layer: norms, projections, attention, router.
struct AttentionCost {
  double layer_us = 0;     // once a layer
  double row_us = 0;       // each row: norms, rotary embedding, router
  double decode_us = 0;    // each decode, besides its row and its context
  Roofline projections;    // of weights that every rank reads whole (router, shared, dense too)
  double kv_gb_per_s = 0;  // reading what decodes attend to; > 0
  double mixed_kv_factor =
      1;  // that takes so much longer beside prefill rows (one kernel for both)
  double prefill_tflop_per_s = 0;   // products of prefill queries with keys and values; > 0
  double prefill_key_us = 0;        // a block of queries reads its keys one after the other
  double prefill_overlap_loss = 0;  // [0, 1], of the shorter of those two

  bool operator==(const AttentionCost&) const = default;
};

// Routed experts of one layer at one rank: one grouped product over the experts that have rows.
struct ExpertCost {
  double layer_us = 0;   // once a layer that has rows
  double row_us = 0;     // each (token, expert) pair: gathered, combined
  double expert_us = 0;  // each expert with rows, besides its weights
  Roofline products;
  // Rows that an expert's products compute for nothing, because tiles have a height.
  double padding_rows_per_expert = 0;
  // Of weights as they are read; absent: the model's. (4-bit weights: 0.5 and their scales.)
  std::optional<double> bytes_per_parameter;

  bool operator==(const ExpertCost&) const = default;
};

// Once a step.
struct StepCost {
  double step_us = 0;     // scheduling, launch, embedding
  double row_us = 0;      // each row: embedding, final norm
  double sampled_us = 0;  // each token chosen, besides its products with the head
  Roofline head;

  bool operator==(const StepCost&) const = default;
};

// Messages between ranks, one direction.
struct LinkCost {
  double latency_us = 0;
  double gb_per_s = 0;  // > 0

  bool operator==(const LinkCost&) const = default;
};

// Where numbers of a profile come from.
struct FitNote {
  std::string what;  // "experts: time against rows and distinct experts"
  std::string from;  // the measurements
  int points = 0;
  double mean_error_percent = 0;  // mean of |predicted - measured| / measured
  double max_error_percent = 0;
  std::vector<std::string> fields;  // of this profile, "experts.products.stream_gb_per_s"

  bool operator==(const FitNote&) const = default;
};

// What a kind of device takes for the parts of a step, as coefficients of CostModel. One rank is
// one device. Value type; checked: a profile that was read has every number in its range.
struct HardwareProfile {
  std::string name;
  std::string description;
  double memory_gb = 0;  // of one device, 10^9 bytes; > 0
  AttentionCost attention;
  ExpertCost experts;
  StepCost step;
  LinkCost same_node;
  LinkCost other_node;
  double move_gb_per_s_same_node = 0;   // of expert weights, while serving
  double move_gb_per_s_other_node = 0;  // > 0, both

  std::vector<FitNote> fitted;
  std::vector<std::string> assumed;  // one sentence each

  bool operator==(const HardwareProfile&) const = default;
};

// {"version": 1, "name": …, "attention": {"layer_us": …}, …}: every field but `fitted`, `assumed`
// and `experts.bytes_per_parameter` must be there, and none that is not known. Errors name the
// field, its value and what would be accepted.
[[nodiscard]] Result<HardwareProfile> profile_from_json(const Json& value);
[[nodiscard]] Json profile_to_json(const HardwareProfile& profile);
// What profile_from_json accepts, as a JSON Schema (2020-12).
[[nodiscard]] Json profile_schema();

// A shipped profile ("h200"), or a file. Errors name the file and the field; a name that is neither
// lists the shipped ones.
[[nodiscard]] Result<HardwareProfile> find_profile(const std::string& name_or_path);
[[nodiscard]] std::vector<std::string_view> shipped_profiles();

// For people: what it says, what was fitted from what with what error, what is assumed.
[[nodiscard]] std::string describe(const HardwareProfile& profile);

}  // namespace gimbal::cost
