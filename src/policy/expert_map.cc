#include "policy/expert_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

namespace gimbal::policy {
namespace {

constexpr double kSumTolerance = 1e-6;
constexpr std::uint64_t kGoldenRatio = 0x9e3779b97f4a7c15ULL;  // 2^64 / φ

std::size_t index(std::int32_t value) {
  return static_cast<std::size_t>(value);
}

Error wrong(const ExpertPlacement& entry, std::string_view field, const std::string& what) {
  return invalid_argument(fmt::format("layer {}, expert {}: {} {}", entry.layer.value(),
                                      entry.expert.value(), field, what),
                          std::string(field));
}

Result<void> check_entry(const ExpertMapShape& shape, const ExpertPlacement& entry) {
  const int layers = static_cast<int>(shape.experts_of_layer.size());
  if (entry.layer.value() < 0 || entry.layer.value() >= layers) {
    return wrong(entry, "layer",
                 fmt::format("must be from 0 to {}, is {}", layers - 1, entry.layer.value()));
  }
  const int experts = shape.experts_of_layer[index(entry.layer.value())];
  if (experts == 0) {
    return wrong(entry, "expert",
                 fmt::format("is in a layer without experts, is {}", entry.expert.value()));
  }
  if (entry.expert.value() < 0 || entry.expert.value() >= experts) {
    return wrong(entry, "expert",
                 fmt::format("must be from 0 to {}, is {}", experts - 1, entry.expert.value()));
  }
  if (entry.rank.value() < 0 || entry.rank.value() >= shape.ranks) {
    return wrong(entry, "rank",
                 fmt::format("must be from 0 to {}, is {}", shape.ranks - 1, entry.rank.value()));
  }
  if (!(entry.fraction > 0 && entry.fraction <= 1)) {
    return wrong(entry, "fraction",
                 fmt::format("must be above 0 and at most 1, is {}", entry.fraction));
  }
  return {};
}

// Of one expert: `place` names it, `shares` are its entries.
Result<void> check_shares(const ExpertPlacement& place, std::span<const ExpertShare> shares) {
  if (shares.empty()) return wrong(place, "rank", "must be given: the expert is on no rank");
  double sum = 0;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    sum += shares[i].fraction;
    for (std::size_t j = 0; j < i; ++j) {
      if (shares[j].rank == shares[i].rank) {
        return wrong(place, "rank", fmt::format("is given twice: {}", shares[i].rank.value()));
      }
    }
  }
  if (!(std::abs(sum - 1) <= kSumTolerance)) {
    return wrong(place, "fraction", fmt::format("must sum to 1 over its ranks, sums to {}", sum));
  }
  return {};
}

}  // namespace

ExpertMap::ExpertMap(const ExpertMapShape& shape, std::uint32_t version)
    : shape_(shape), version_(version) {
  GIMBAL_CHECK(shape.ranks >= 1 && shape.ranks <= std::numeric_limits<std::int16_t>::max());
  for (const int experts : shape.experts_of_layer) {
    GIMBAL_CHECK(experts >= 0);
    stride_ = std::max(stride_, index(experts));
  }
  const std::size_t cells = stride_ * shape.experts_of_layer.size();
  only_rank_.reserve(cells);
  first_.reserve(cells + 1);
  first_.push_back(0);
  shares_.reserve(cells);
  below_.reserve(cells);
  out_.resize(index(shape.ranks));
}

void ExpertMap::append(std::span<const ExpertShare> shares) {
  double sum = 0;
  for (const ExpertShare& share : shares)
    sum += share.fraction;
  double before = 0;
  for (const ExpertShare& share : shares) {
    before += share.fraction;
    shares_.push_back(share);
    below_.push_back(static_cast<std::uint64_t>(std::llround(before / sum * 0x1p32)));
  }
  below_.back() = std::uint64_t{1} << 32;
  first_.push_back(static_cast<std::int32_t>(shares_.size()));
  only_rank_.push_back(shares.size() == 1 ? static_cast<std::int16_t>(shares[0].rank.value())
                                          : std::int16_t{-1});
}

void ExpertMap::append_nothing() {
  first_.push_back(first_.back());
  only_rank_.push_back(-1);
}

Result<ExpertMap> ExpertMap::make(const ExpertMapShape& shape, std::uint32_t version,
                                  std::span<const ExpertPlacement> entries) {
  ExpertMap map(shape, version);
  std::vector<std::vector<ExpertShare>> cells(map.stride_ * shape.experts_of_layer.size());
  for (const ExpertPlacement& entry : entries) {
    GIMBAL_RETURN_IF_ERROR(check_entry(shape, entry));
    cells[map.cell_of(entry.layer, entry.expert)].push_back({entry.rank, entry.fraction});
  }
  for (int layer = 0; layer < map.layers(); ++layer) {
    for (int expert = 0; expert < static_cast<int>(map.stride_); ++expert) {
      if (expert >= map.experts(LayerIndex{layer})) {
        map.append_nothing();
        continue;
      }
      const ExpertPlacement place{.layer = LayerIndex{layer}, .expert = ExpertId{expert}};
      const std::vector<ExpertShare>& shares = cells[map.cell_of(place.layer, place.expert)];
      GIMBAL_RETURN_IF_ERROR(check_shares(place, shares));
      map.append(shares);
    }
  }
  return map;
}

ExpertMap ExpertMap::linear(const ExpertMapShape& shape, std::uint32_t version) {
  ExpertMap map(shape, version);
  for (const int experts : shape.experts_of_layer) {
    const int each = experts / shape.ranks;
    const int with_one_more = experts % shape.ranks;
    for (int rank = 0; rank < shape.ranks; ++rank) {
      const ExpertShare share{.rank = Rank{rank}};
      for (int i = 0; i < each + (rank < with_one_more ? 1 : 0); ++i)
        map.append({&share, 1});
    }
    for (std::size_t i = index(experts); i < map.stride_; ++i)
      map.append_nothing();
  }
  return map;
}

std::uint64_t ExpertMap::fingerprint() const {
  std::uint64_t hash = static_cast<std::uint64_t>(shape_.ranks);
  for (const int experts : shape_.experts_of_layer)
    hash = hash_combine(hash, static_cast<std::uint64_t>(experts));
  for (std::size_t cell = 0; cell < only_rank_.size(); ++cell) {
    hash = hash_combine(hash, static_cast<std::uint64_t>(first_[cell]));
    for (std::int32_t i = first_[cell]; i < first_[cell + 1]; ++i) {
      const ExpertShare& share = shares_[index(i)];
      hash = hash_combine(hash, static_cast<std::uint64_t>(share.rank.value()));
      hash = hash_combine(hash, std::bit_cast<std::uint64_t>(share.fraction));
    }
  }
  return hash;
}

ExpertMap ExpertMap::without_rank(Rank dead) const {
  GIMBAL_CHECK(dead.value() >= 0 && dead.value() < ranks());
  ExpertMap map(shape_, version_ + 1);
  map.out_ = out_;
  map.out_[index(dead.value())] = 1;
  GIMBAL_CHECK(std::count(map.out_.begin(), map.out_.end(), 0) > 0, "no rank survives");
  std::vector<int> copies(index(ranks()));
  std::vector<ExpertShare> left;
  for (int l = 0; l < layers(); ++l) {
    const LayerIndex layer{l};
    for (int rank = 0; rank < ranks(); ++rank)
      copies[index(rank)] = map.taken_out(Rank{rank}) ? std::numeric_limits<int>::max()
                                                      : copies_on(layer, Rank{rank});
    for (int expert = 0; expert < static_cast<int>(stride_); ++expert) {
      if (expert >= experts(layer)) {
        map.append_nothing();
        continue;
      }
      left.clear();
      double sum = 0;
      for (const ExpertShare& share : shares(layer, ExpertId{expert})) {
        if (share.rank == dead) continue;
        left.push_back(share);
        sum += share.fraction;
      }
      if (left.empty()) {
        const auto fewest = std::min_element(copies.begin(), copies.end());
        ++*fewest;
        left.push_back({.rank = Rank{static_cast<std::int32_t>(fewest - copies.begin())}});
      } else if (left.size() < shares(layer, ExpertId{expert}).size()) {
        for (ExpertShare& share : left)
          share.fraction /= sum;
      }
      map.append(left);
    }
  }
  return map;
}

Rank ExpertMap::split(std::size_t cell, std::uint64_t row_key) const {
  // Each cell starts elsewhere in the sequence, so that a row's experts do not all take the same
  // side.
  const std::uint64_t number = (row_key * kGoldenRatio + mix64(cell + 1)) >> 32;
  auto i = index(first_[cell]);
  while (number >= below_[i])
    ++i;
  return shares_[i].rank;
}

std::span<const ExpertShare> ExpertMap::shares(LayerIndex layer, ExpertId expert) const {
  const std::size_t cell = cell_of(layer, expert);
  const auto first = index(first_[cell]);
  return std::span(shares_).subspan(first, index(first_[cell + 1]) - first);
}

bool ExpertMap::holds(LayerIndex layer, ExpertId expert, Rank rank) const {
  for (const ExpertShare& share : shares(layer, expert)) {
    if (share.rank == rank) return true;
  }
  return false;
}

int ExpertMap::copies_on(LayerIndex layer, Rank rank) const {
  int copies = 0;
  for (int expert = 0; expert < experts(layer); ++expert)
    copies += holds(layer, ExpertId{expert}, rank) ? 1 : 0;
  return copies;
}

Result<void> check_shape(const ExpertMap& map, const ExpertMapShape& shape) {
  if (map.shape() == shape) return {};
  return invalid_argument(
      fmt::format("the expert map must be of {} layers and {} ranks and the model's experts, is of "
                  "{} layers and {} ranks",
                  shape.experts_of_layer.size(), shape.ranks, map.layers(), map.ranks()),
      "expert_map");
}

Result<ExpertMap> next_expert_map(const ExpertMap& now, ExpertMap next,
                                  FunctionRef<bool(Rank)> gone) {
  GIMBAL_RETURN_IF_ERROR(check_shape(next, now.shape()));
  for (int rank = 0; rank < now.ranks(); ++rank) {
    if (!gone(Rank{rank})) continue;
    for (int layer = 0; layer < next.layers(); ++layer) {
      if (next.copies_on(LayerIndex{layer}, Rank{rank}) == 0) continue;
      return invalid_argument(fmt::format("the expert map must leave out rank {}, which is gone, "
                                          "but has experts of layer {} on it",
                                          rank, layer),
                              "rank");
    }
  }
  const std::uint32_t version = std::max(next.version(), now.version() + 1);
  if (version > kMostMapVersion) {
    return invalid_argument(fmt::format("the expert map's version must be at most {}, would be {}",
                                        kMostMapVersion, version),
                            "version");
  }
  for (int rank = 0; rank < now.ranks(); ++rank) {
    if (gone(Rank{rank})) next = next.without_rank(Rank{rank});  // and when another one goes
  }
  next.set_version(version);
  return next;
}

}  // namespace gimbal::policy
