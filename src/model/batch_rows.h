#pragma once

#include <cstdint>
#include <span>

#include "model_config/model_config.h"
#include "tensor/buffer.h"
#include "tensor/matrix_view.h"

namespace gimbal::model {

// Memory for the token rows of several batches in mid-forward: `regions` regions of `region_rows`
// rows. Every row of every region has one index in the same matrices, so that rows of different
// batches can share a run of an expert. Reserved at once, touched only when used. One thread a
// region: ranks that share experts have regions of one store, and the services that run their rows
// are handed them, and hand them back, through mailboxes.
class RowStore {
 public:
  RowStore(const model_config::ModelConfig& config, tensor::DType dtype, std::int64_t regions,
           std::int64_t region_rows);

  [[nodiscard]] std::int64_t region_rows() const { return region_rows_; }
  [[nodiscard]] std::int64_t rows() const { return rows_; }  // of all regions
  // Choices a row: the model's experts per token, or 0 for a dense model.
  [[nodiscard]] std::int64_t choices() const { return choices_; }

  // Whole matrices, over all regions; see BatchRows for what they hold.
  [[nodiscard]] std::span<std::int32_t> positions() const { return positions_.as<std::int32_t>(); }
  [[nodiscard]] tensor::MatrixView hidden() const;
  [[nodiscard]] tensor::MatrixView expert_input() const;
  [[nodiscard]] std::span<std::int32_t> expert_ids() const {
    return expert_ids_.as<std::int32_t>();
  }
  [[nodiscard]] std::span<float> expert_weights() const { return expert_weights_.as<float>(); }
  [[nodiscard]] tensor::MatrixView expert_outputs() const;

  // Copies `count` rows with all that belongs to them. The ranges may overlap.
  void copy(std::int64_t from, std::int64_t to, std::int64_t count);

 private:
  std::int64_t hidden_size_;
  std::int64_t choices_;
  tensor::DType dtype_;
  std::int64_t region_rows_;
  std::int64_t rows_;
  tensor::Buffer positions_;
  tensor::Buffer hidden_;
  tensor::Buffer expert_input_;
  tensor::Buffer expert_ids_;
  tensor::Buffer expert_weights_;
  tensor::Buffer expert_outputs_;
};

// The token rows of one batch: all that a batch keeps between stages, and so all that a suspended
// one needs to go on. Keys and values are elsewhere (KvStorage), written in place. A view of one
// region of a RowStore, which must outlive it; whoever makes it owns the region.
class BatchRows {
 public:
  BatchRows(RowStore& store, std::int64_t region);

  [[nodiscard]] std::int64_t rows() const { return rows_; }
  [[nodiscard]] std::int64_t capacity() const { return store_->region_rows(); }
  // Index of this batch's first row in the store.
  [[nodiscard]] std::int64_t first_index() const { return first_; }
  // Forgets all rows and makes `rows` new ones, whose contents are undefined.
  // Requires: rows <= capacity().
  void reset(std::int64_t rows);

  // Absolute position of each row in its sequence, [rows].
  [[nodiscard]] std::span<std::int32_t> positions() const;
  // The residual stream, f32 [rows, hidden].
  [[nodiscard]] tensor::MatrixView hidden() const;
  // What the experts read, [rows, hidden]: written by the router stage.
  [[nodiscard]] tensor::MatrixView expert_input() const;
  // The router's choices [rows * k], ascending by expert id in each row, and their weights.
  [[nodiscard]] std::span<std::int32_t> expert_ids() const;
  [[nodiscard]] std::span<float> expert_weights() const;
  // One slot for each (row, choice), [rows * k, hidden]: written by the expert services.
  [[nodiscard]] tensor::MatrixView expert_outputs() const;

  // Appends a copy of rows [first, first + count) of `other`, of the same store.
  // Requires: room for them.
  void append(const BatchRows& other, std::int64_t first, std::int64_t count);
  // Copies rows [from, from + count) to [to, to + count).
  void move(std::int64_t from, std::int64_t to, std::int64_t count);
  // Keeps the first `rows` rows only.
  void truncate(std::int64_t rows);

 private:
  RowStore* store_;
  std::int64_t first_;
  std::int64_t rows_ = 0;
};

}  // namespace gimbal::model
