#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernel_context.h"
#include "tensor/matrix_view.h"

namespace gimbal::kernels {

struct RouterOptions {
  std::int64_t top_k = 1;  // <= experts
  bool renormalize =
      false;  // the chosen weights sum to 1: norm_topk_prob, and Mixtral's softmax of the top k
};

// Chooses each row's top_k experts by their logits (on ties the lower id), with the softmax over
// all experts as weights. A row's choices are written in ascending order of expert id. Shapes:
// logits [rows, experts] (f32), experts and weights [rows * top_k]. Rows with NaN logits get valid,
// distinct ids all the same.
void route(const KernelContext& context, const RouterOptions& options,
           tensor::ConstMatrixView logits, std::span<std::int32_t> experts,
           std::span<float> weights);
void route_reference(const RouterOptions& options, tensor::ConstMatrixView logits,
                     std::span<std::int32_t> experts, std::span<float> weights);

}  // namespace gimbal::kernels
