#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "base/function_ref.h"
#include "base/hash.h"
#include "base/ids.h"
#include "base/result.h"

namespace gimbal::policy {

// The last version that a map can be given. Maps without ranks that are gone have those after it,
// so that no version ever comes twice: rows and who routes them tell maps apart by it.
inline constexpr std::uint32_t kMostMapVersion = 0x7fffffff;

// What a map is about: how many experts each layer has, and how many ranks share them.
struct ExpertMapShape {
  std::vector<int> experts_of_layer;  // 0: a layer without experts (dense)
  int ranks = 1;                      // of the expert-parallel group

  [[nodiscard]] static ExpertMapShape uniform(int layers, int experts, int ranks) {
    return {std::vector<int>(static_cast<std::size_t>(layers), experts), ranks};
  }
  bool operator==(const ExpertMapShape&) const = default;
};

// A rank that holds a copy of an expert, and the part of the expert's rows that it runs.
struct ExpertShare {
  Rank rank;
  double fraction = 1;  // (0, 1]

  bool operator==(const ExpertShare&) const = default;
};

// One entry of a map as it is written down.
struct ExpertPlacement {
  LayerIndex layer;
  ExpertId expert;
  Rank rank;
  double fraction = 1;
};

// Where the experts are: (layer, expert) → the ranks that hold a copy, with split fractions, under
// a version that rows carry along (docs/design/0010, "Maps"). Every expert has at least one rank;
// its fractions are in (0, 1] and sum to 1; a rank that was taken out holds nothing.
//
// Value type; a constant map may be read by any number of threads.
class ExpertMap {
 public:
  // From entries in any order; those of one expert keep their order. kInvalidArgument names layer,
  // expert, field and value: an index out of range, a rank twice, fractions that are not in (0, 1]
  // or do not sum to 1 within 1e-6, an expert without a rank.
  // Requires: ranks from 1 to 32 767, experts >= 0.
  [[nodiscard]] static Result<ExpertMap> make(const ExpertMapShape& shape, std::uint32_t version,
                                              std::span<const ExpertPlacement> entries);
  // Consecutive experts on each rank, the first ranks one more where experts do not divide evenly.
  [[nodiscard]] static ExpertMap linear(const ExpertMapShape& shape, std::uint32_t version = 0);

  // The map when `dead` runs nothing any more, under the next version: its fractions go to the
  // expert's other ranks in proportion; an expert that only it had goes to the surviving rank with
  // fewest copies in that layer, the lowest of equals. Ranks taken out earlier stay out.
  // Requires: another rank survives.
  [[nodiscard]] ExpertMap without_rank(Rank dead) const;

  // The rank that runs row `row_key` of this expert. A function of its arguments and the map alone.
  // Keys that count up follow the fractions closely in every stretch (the golden-ratio sequence),
  // random ones on average. Requires: an expert of the layer.
  [[nodiscard]] Rank destination(LayerIndex layer, ExpertId expert, std::uint64_t row_key) const {
    const std::size_t cell = cell_of(layer, expert);
    const std::int16_t only = only_rank_[cell];
    return only >= 0 ? Rank{only} : split(cell, row_key);
  }

  // The ranks of an expert, at least one. Holds until the map changes.
  [[nodiscard]] std::span<const ExpertShare> shares(LayerIndex layer, ExpertId expert) const;
  [[nodiscard]] bool holds(LayerIndex layer, ExpertId expert, Rank rank) const;
  // Copies that the rank has in this layer.
  [[nodiscard]] int copies_on(LayerIndex layer, Rank rank) const;

  // Of where rows go, whatever the version: maps that say the same have the same.
  [[nodiscard]] std::uint64_t fingerprint() const;
  [[nodiscard]] std::uint32_t version() const { return version_; }
  void set_version(std::uint32_t version) { version_ = version; }
  [[nodiscard]] int layers() const { return static_cast<int>(shape_.experts_of_layer.size()); }
  [[nodiscard]] int experts(LayerIndex layer) const {
    return shape_.experts_of_layer[static_cast<std::size_t>(layer.value())];
  }
  [[nodiscard]] int ranks() const { return shape_.ranks; }
  [[nodiscard]] const ExpertMapShape& shape() const { return shape_; }
  [[nodiscard]] bool taken_out(Rank rank) const {
    return out_[static_cast<std::size_t>(rank.value())] != 0;
  }

  bool operator==(const ExpertMap&) const = default;

 private:
  ExpertMap(const ExpertMapShape& shape, std::uint32_t version);

  [[nodiscard]] std::size_t cell_of(LayerIndex layer, ExpertId expert) const {
    GIMBAL_DCHECK(layer.value() >= 0 && layer.value() < layers());
    GIMBAL_DCHECK(expert.value() >= 0 && expert.value() < experts(layer));
    return static_cast<std::size_t>(layer.value()) * stride_ +
           static_cast<std::size_t>(expert.value());
  }
  [[nodiscard]] Rank split(std::size_t cell, std::uint64_t row_key) const;
  void append(std::span<const ExpertShare> shares);  // of the next cell
  void append_nothing();                             // a cell without an expert

  ExpertMapShape shape_;
  std::uint32_t version_ = 0;
  std::size_t stride_ = 0;               // cells are [layers, most experts of a layer]
  std::vector<std::int16_t> only_rank_;  // [cells]; -1: not exactly one
  std::vector<std::int32_t> first_;      // [cells + 1], into shares_
  std::vector<ExpertShare> shares_;
  std::vector<std::uint64_t>
      below_;                      // shares_[i] takes 32-bit numbers below it, after those before
  std::vector<std::uint8_t> out_;  // [ranks]: taken out
};

// Whether the map is for these layers, experts and ranks; kInvalidArgument says what it is for.
[[nodiscard]] Result<void> check_shape(const ExpertMap& map, const ExpertMapShape& shape);

// The map after `now` in a group that some ranks are gone from: `next` under a version above that
// of `now`, its own if that is, with the ranks that are gone taken out. kInvalidArgument: another
// shape, experts at a rank that is gone, a version above kMostMapVersion.
// Requires: a rank is left.
[[nodiscard]] Result<ExpertMap> next_expert_map(const ExpertMap& now, ExpertMap next,
                                                FunctionRef<bool(Rank)> gone);

}  // namespace gimbal::policy
