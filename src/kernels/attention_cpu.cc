#include <algorithm>
#include <vector>

#include "base/check.h"
#include "kernels/attention.h"
#include "kernels/attention_tile.h"
#include "kernels/qk_norm_rope.h"

namespace gimbal::kernels {

struct AttentionWorkspace::State {
  std::vector<AttentionTile> tiles;   // what the first pass runs
  std::vector<AttentionTile> splits;  // whole tiles whose segments are spread over `tiles`
  std::vector<float> partials;
};

AttentionWorkspace::AttentionWorkspace() : state_(std::make_unique<State>()) {}
AttentionWorkspace::~AttentionWorkspace() = default;
AttentionWorkspace::AttentionWorkspace(AttentionWorkspace&&) noexcept = default;
AttentionWorkspace& AttentionWorkspace::operator=(AttentionWorkspace&&) noexcept = default;

namespace {

// The tiles of one sequence: for each kv head, chunks of query positions, the most expensive first.
void add_tiles(const AttentionTile& first_tile, const AttentionSequence& sequence,
               std::vector<AttentionTile>& tiles) {
  const AttentionShape& shape = *first_tile.shape;
  const auto size = static_cast<std::int64_t>(tensor::size_of(first_tile.layer->layout.dtype));
  const std::int64_t head_bytes = shape.head_dim * first_tile.group() * size;
  const std::int64_t most = std::max<std::int64_t>(1, kTileRows / first_tile.group());
  const std::int64_t chunks = (sequence.rows + most - 1) / most;
  for (std::int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
    AttentionTile tile = first_tile;
    const std::int64_t begin = chunk * most;
    tile.positions = std::min(most, sequence.rows - begin);
    tile.first_position = sequence.position + begin;
    tile.pages = sequence.pages;
    tile.first_segment = tile.first_key(tile.first_position) / kSegmentTokens;
    tile.end_segment = (tile.end_key() + kSegmentTokens - 1) / kSegmentTokens;
    for (std::int64_t head = 0; head < shape.kv_heads; ++head) {
      tile.kv_head = head;
      tile.q =
          first_tile.q + (sequence.first_row + begin) * tile.q_stride * size + head * head_bytes;
      tile.out = first_tile.out + (sequence.first_row + begin) * tile.out_stride * size +
                 head * head_bytes;
      tiles.push_back(tile);
    }
  }
}

// Too few tiles for the workers: long ones become one tile a segment. Changes no bit of a result,
// because segments are computed apart and combined in order in any case.
void split_tiles(AttentionWorkspace::State& state) {
  std::vector<AttentionTile>& tiles = state.tiles;
  const auto longer = [](const AttentionTile& tile) {
    return tile.end_segment - tile.first_segment > 1;
  };
  const auto middle = std::stable_partition(
      tiles.begin(), tiles.end(), [&](const AttentionTile& tile) { return !longer(tile); });
  state.splits.assign(middle, tiles.end());
  tiles.erase(middle, tiles.end());
  std::int64_t floats = 0;
  for (AttentionTile& whole : state.splits) {
    floats += (whole.end_segment - whole.first_segment) * whole.partial_floats();
  }
  if (state.partials.size() < static_cast<std::size_t>(floats)) {
    state.partials.resize(static_cast<std::size_t>(floats));
  }
  float* next = state.partials.data();
  for (AttentionTile& whole : state.splits) {
    whole.partials = next;
    next += (whole.end_segment - whole.first_segment) * whole.partial_floats();
    for (std::int64_t segment = whole.first_segment; segment < whole.end_segment; ++segment) {
      AttentionTile part = whole;
      part.partials = whole.partial(segment);
      part.first_segment = segment;
      part.end_segment = segment + 1;
      tiles.push_back(part);
    }
  }
}

// Blocks of keys that a worker gets through in about 200 us, from products of a query row, a key
// and a dimension (measured: bench/attention_bench --interruptible).
std::int64_t blocks_between_pauses(const AttentionTile& tile, Isa isa) {
  const bool matrix_tiles =
      isa == Isa::kAmxBf16 && tile.layer->layout.dtype == tensor::DType::kBF16;
  const std::int64_t products = matrix_tiles        ? 8'000'000
                                : isa == Isa::kAvx2 ? 2'000'000
                                                    : 4'000'000;
  const std::int64_t of_a_block = tile.rows() * kBlockTokens * tile.shape->head_dim;
  return std::max<std::int64_t>(1, products / of_a_block);
}

void check_arguments(const AttentionShape& shape, tensor::ConstMatrixView q, const KvLayer& layer,
                     tensor::MatrixView out) {
  const KvLayout& layout = layer.layout;
  GIMBAL_CHECK(layout.kv_heads == shape.kv_heads && layout.head_dim == shape.head_dim);
  GIMBAL_CHECK(shape.head_dim <= kMaxHeadDim && shape.head_dim % 16 == 0);
  GIMBAL_CHECK(shape.heads % shape.kv_heads == 0 && shape.heads / shape.kv_heads <= kTileRows);
  GIMBAL_CHECK(q.dtype == layout.dtype && out.dtype == layout.dtype);
  GIMBAL_CHECK(q.cols == shape.heads * shape.head_dim && out.cols == q.cols);
}

}  // namespace

void paged_attention(const KernelContext& context, const AttentionShape& shape,
                     tensor::ConstMatrixView q, std::span<const AttentionSequence> sequences,
                     const KvLayer& layer, AttentionWorkspace& workspace, tensor::MatrixView out) {
  check_arguments(shape, q, layer, out);
  if (context.isa == Isa::kReference) {
    return paged_attention_reference(shape, q, sequences, layer, out);
  }
  AttentionWorkspace::State& state = workspace.state();
  state.tiles.clear();
  state.splits.clear();
  AttentionTile tile;
  tile.shape = &shape;
  tile.layer = &layer;
  tile.q = q.data;
  tile.q_stride = q.stride;
  tile.out = out.data;
  tile.out_stride = out.stride;
  for (const AttentionSequence& sequence : sequences)
    add_tiles(tile, sequence, state.tiles);
  const auto workers = static_cast<std::size_t>(context.pool.workers());
  if (workers > 1 && state.tiles.size() < 2 * workers) split_tiles(state);

  const bool tiles = context.isa == Isa::kAmxBf16 && layer.layout.dtype == tensor::DType::kBF16 &&
                     shape.head_dim % 32 == 0;
  const AttentionTileKernel kernel =
      tiles ? attention_tile_kernel_amx() : attention_tile_kernel(context.isa, layer.layout.dtype);
  context.run(static_cast<int>(state.tiles.size()), [&](int task, int worker) {
    AttentionTile& each = state.tiles[static_cast<std::size_t>(task)];
    const auto pause_here = [&context, worker] { context.pause(worker); };
    const FunctionRef<void()> pause(pause_here);
    if (context.interrupt != nullptr) {  // others' rows may come, and need not wait for long
      each.pause = &pause;
      each.pause_blocks = blocks_between_pauses(each, context.isa);
    }
    kernel.run(each);
  });
  if (state.splits.empty()) return;
  context.run(static_cast<int>(state.splits.size()),
              [&](int task, int) { kernel.finish(state.splits[static_cast<std::size_t>(task)]); });
}

}  // namespace gimbal::kernels
