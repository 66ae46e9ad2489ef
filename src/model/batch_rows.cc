#include "model/batch_rows.h"

#include <cstring>

#include "base/check.h"

namespace gimbal::model {
namespace {

tensor::Buffer reserve(std::int64_t bytes) {
  return tensor::Buffer(static_cast<std::size_t>(bytes), tensor::PageKind::kSmall);
}

void copy_within(const tensor::Buffer& buffer, std::int64_t from, std::int64_t to,
                 std::int64_t count, std::int64_t row_bytes) {
  std::memmove(buffer.data() + to * row_bytes, buffer.data() + from * row_bytes,
               static_cast<std::size_t>(count * row_bytes));
}

}  // namespace

RowStore::RowStore(const model_config::ModelConfig& config, tensor::DType dtype,
                   std::int64_t regions, std::int64_t region_rows)
    : hidden_size_(config.hidden_size),
      choices_(config.experts_per_token),
      dtype_(dtype),
      region_rows_(region_rows),
      rows_(regions * region_rows) {
  const auto element = static_cast<std::int64_t>(tensor::size_of(dtype));
  positions_ = reserve(rows_ * 4);
  hidden_ = reserve(rows_ * hidden_size_ * 4);
  expert_input_ = reserve(rows_ * hidden_size_ * element);
  expert_ids_ = reserve(rows_ * choices_ * 4);
  expert_weights_ = reserve(rows_ * choices_ * 4);
  expert_outputs_ = reserve(rows_ * choices_ * hidden_size_ * element);
}

tensor::MatrixView RowStore::hidden() const {
  return {hidden_.data(), tensor::DType::kF32, rows_, hidden_size_, hidden_size_};
}

tensor::MatrixView RowStore::expert_input() const {
  return {expert_input_.data(), dtype_, rows_, hidden_size_, hidden_size_};
}

tensor::MatrixView RowStore::expert_outputs() const {
  return {expert_outputs_.data(), dtype_, rows_ * choices_, hidden_size_, hidden_size_};
}

void RowStore::copy(std::int64_t from, std::int64_t to, std::int64_t count) {
  const auto element = static_cast<std::int64_t>(tensor::size_of(dtype_));
  copy_within(positions_, from, to, count, 4);
  copy_within(hidden_, from, to, count, hidden_size_ * 4);
  copy_within(expert_input_, from, to, count, hidden_size_ * element);
  if (choices_ == 0) return;
  copy_within(expert_ids_, from, to, count, choices_ * 4);
  copy_within(expert_weights_, from, to, count, choices_ * 4);
  copy_within(expert_outputs_, from, to, count, choices_ * hidden_size_ * element);
}

BatchRows::BatchRows(RowStore& store, std::int64_t region)
    : store_(&store), first_(region * store.region_rows()) {
  GIMBAL_CHECK(first_ + store.region_rows() <= store.rows());
}

void BatchRows::reset(std::int64_t rows) {
  GIMBAL_CHECK(rows <= capacity());
  rows_ = rows;
}

std::span<std::int32_t> BatchRows::positions() const {
  return store_->positions().subspan(first_, rows_);
}

tensor::MatrixView BatchRows::hidden() const {
  return store_->hidden().rows_at(first_, rows_);
}

tensor::MatrixView BatchRows::expert_input() const {
  return store_->expert_input().rows_at(first_, rows_);
}

std::span<std::int32_t> BatchRows::expert_ids() const {
  return store_->expert_ids().subspan(first_ * store_->choices(), rows_ * store_->choices());
}

std::span<float> BatchRows::expert_weights() const {
  return store_->expert_weights().subspan(first_ * store_->choices(), rows_ * store_->choices());
}

tensor::MatrixView BatchRows::expert_outputs() const {
  return store_->expert_outputs().rows_at(first_ * store_->choices(), rows_ * store_->choices());
}

void BatchRows::append(const BatchRows& other, std::int64_t first, std::int64_t count) {
  GIMBAL_CHECK(other.store_ == store_);
  GIMBAL_CHECK(rows_ + count <= capacity() && first + count <= other.rows_);
  store_->copy(other.first_ + first, first_ + rows_, count);
  rows_ += count;
}

void BatchRows::move(std::int64_t from, std::int64_t to, std::int64_t count) {
  GIMBAL_CHECK(from + count <= rows_ && to + count <= rows_);
  if (to != from) store_->copy(first_ + from, first_ + to, count);
}

void BatchRows::truncate(std::int64_t rows) {
  GIMBAL_CHECK(rows <= rows_);
  rows_ = rows;
}

}  // namespace gimbal::model
