#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "kernels/attention_tile.h"
#include "kernels/test_matrix.h"

namespace gimbal::kernels {
namespace {

using tensor::DType;

ThreadPool& pool_of(int workers) {
  static ThreadPool one({.workers = 1, .pin = false});
  static ThreadPool many({.workers = 5, .pin = false});
  return workers == 1 ? one : many;
}

AttentionShape shape_of(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim,
                        std::int64_t window = 0) {
  return {heads, kv_heads, head_dim, 1.0F / std::sqrt(static_cast<float>(head_dim)), window};
}

// A page pool whose every slot is NaN until it is written, and a block table that scatters pages.
class TestCache {
 public:
  TestCache(const AttentionShape& shape, DType dtype, std::int64_t pages, std::uint64_t seed)
      : layout_{dtype, shape.kv_heads, shape.head_dim},
        memory_(static_cast<std::size_t>(pages * (layout_.page_bytes() + 64) + 64), 0xff) {
    table_.resize(static_cast<std::size_t>(pages));
    std::iota(table_.begin(), table_.end(), 0);
    Rng rng(seed);
    for (std::size_t i = table_.size(); i > 1; --i)
      std::swap(table_[i - 1], table_[rng.below(i)]);
  }
  [[nodiscard]] KvLayer layer() {
    auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    auto* base = reinterpret_cast<std::byte*>((address + 63) / 64 * 64);
    return {base, layout_.page_bytes() + 64, layout_};
  }
  // The block table of a sequence whose pages start at `first` of the shuffled pool.
  [[nodiscard]] const std::int32_t* table(std::int64_t first = 0) const {
    return table_.data() + first;
  }

 private:
  KvLayout layout_;
  std::vector<unsigned char> memory_;
  std::vector<std::int32_t> table_;
};

// One sequence's inputs: `tokens` rows of q, k and v.
struct Tokens {
  TestMatrix q;
  TestMatrix k;
  TestMatrix v;

  Tokens(Rng& rng, const AttentionShape& shape, DType dtype, std::int64_t tokens)
      : q(TestMatrix::random(rng, dtype, tokens, shape.heads * shape.head_dim, 3.0F)),
        k(TestMatrix::random(rng, dtype, tokens, shape.kv_heads * shape.head_dim, 2.0F)),
        v(TestMatrix::random(rng, dtype, tokens, shape.kv_heads * shape.head_dim, 1.0F)) {}
};

// Writes and attends tokens [begin, end), as a step of a server would.
void run_chunk(const KernelContext& context, const AttentionShape& shape, Tokens& tokens,
               TestCache& cache, std::int64_t begin, std::int64_t end, TestMatrix& out) {
  const AttentionSequence sequence{0, end - begin, begin, cache.table()};
  AttentionWorkspace workspace;
  write_kv(context, tokens.k.view().rows_at(begin, end - begin),
           tokens.v.view().rows_at(begin, end - begin), {&sequence, 1}, cache.layer());
  paged_attention(context, shape, tokens.q.view().rows_at(begin, end - begin), {&sequence, 1},
                  cache.layer(), workspace, out.view().rows_at(begin, end - begin));
}

TestMatrix run_in_chunks(const KernelContext& context, const AttentionShape& shape, DType dtype,
                         Tokens& tokens, const std::vector<std::int64_t>& chunks) {
  const std::int64_t total = std::accumulate(chunks.begin(), chunks.end(), std::int64_t{0});
  TestCache cache(shape, dtype, (total + kPageTokens - 1) / kPageTokens, 9);
  TestMatrix out(dtype, total, shape.heads * shape.head_dim);
  std::int64_t at = 0;
  for (const std::int64_t chunk : chunks) {
    run_chunk(context, shape, tokens, cache, at, at + chunk, out);
    at += chunk;
  }
  return out;
}

struct Case {
  Isa isa;
  DType dtype;
  AttentionShape shape;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Isa isa : supported_levels()) {
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      all.push_back({isa, dtype, shape_of(8, 2, 64)});
      all.push_back({isa, dtype, shape_of(3, 3, 32)});
      all.push_back({isa, dtype, shape_of(7, 1, 80, 100)});
      all.push_back({isa, dtype, shape_of(2, 1, 128, 17)});
    }
  }
  return all;
}

std::string name_of(const Case& c) {
  return std::string(to_string(c.isa)) + " " + std::string(to_string(c.dtype)) + " heads " +
         std::to_string(c.shape.heads) + "/" + std::to_string(c.shape.kv_heads) + " x " +
         std::to_string(c.shape.head_dim) + " window " + std::to_string(c.shape.window);
}

TEST(AttentionTest, EqualsTheFormulaWithinRounding) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    Rng rng(1);
    constexpr std::int64_t kTokens = 333;
    Tokens tokens(rng, c.shape, c.dtype, kTokens);
    const KernelContext context{pool_of(1), c.isa};
    const KernelContext plain{pool_of(1), Isa::kReference};
    const TestMatrix out = run_in_chunks(context, c.shape, c.dtype, tokens, {kTokens});
    const TestMatrix expected = run_in_chunks(plain, c.shape, c.dtype, tokens, {kTokens});
    // Values are below 1 in magnitude, so that an absolute tolerance is one relative to the values.
    const double tolerance = c.dtype == DType::kBF16 ? 6e-3 : 5e-6;
    for (std::int64_t r = 0; r < kTokens; ++r) {
      for (std::int64_t i = 0; i < out.view().cols; ++i) {
        ASSERT_NEAR(out.at(r, i), expected.at(r, i), tolerance) << r << " " << i;
      }
    }
  }
}

TEST(AttentionTest, PrefillChunksAndDecodeGiveTheSameBits) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    Rng rng(2);
    constexpr std::int64_t kTokens = 1100;  // three segments
    Tokens tokens(rng, c.shape, c.dtype, kTokens);
    const KernelContext context{pool_of(1), c.isa};
    const TestMatrix whole = run_in_chunks(context, c.shape, c.dtype, tokens, {kTokens});
    EXPECT_EQ(
        run_in_chunks(context, c.shape, c.dtype, tokens, std::vector<std::int64_t>(kTokens, 1)),
        whole)
        << "token by token";
    std::vector<std::int64_t> ragged;
    for (std::int64_t left = kTokens; left > 0; left -= ragged.back()) {
      ragged.push_back(std::min(left, rng.between(1, 150)));
    }
    EXPECT_EQ(run_in_chunks(context, c.shape, c.dtype, tokens, ragged), whole) << "ragged chunks";
  }
}

TEST(AttentionTest, ThreadsAndSplitDecodesGiveTheSameBits) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    Rng rng(3);
    constexpr std::int64_t kTokens = 1300;
    Tokens tokens(rng, c.shape, c.dtype, kTokens);
    const std::vector<std::int64_t> chunks = {kTokens - 3, 1, 1, 1};
    const TestMatrix one = run_in_chunks({pool_of(1), c.isa}, c.shape, c.dtype, tokens, chunks);
    const TestMatrix many = run_in_chunks({pool_of(5), c.isa}, c.shape, c.dtype, tokens, chunks);
    EXPECT_EQ(one, many);
  }
}

// Attends to something else in every pause, on the same processor.
class OtherAttention final : public Interrupt {
 public:
  OtherAttention(const Case& c, ThreadPool& pool)
      : case_(c),
        context_{pool, c.isa, Urgency::kUrgent},
        tokens_(rng_, c.shape, c.dtype, kTokens) {}
  void between_tasks() override {
    ++calls_;
    if (calls_ % 5 == 1) run_in_chunks(context_, case_.shape, case_.dtype, tokens_, {kTokens});
  }
  [[nodiscard]] int calls() const { return calls_; }

 private:
  static constexpr std::int64_t kTokens = 70;
  const Case& case_;
  KernelContext context_;
  Rng rng_{8};
  Tokens tokens_;
  int calls_ = 0;
};

TEST(AttentionTest, LongTasksPauseAndGiveTheSameBits) {
  for (const Case& c : cases()) {
    if (c.isa == Isa::kReference) continue;
    SCOPED_TRACE(name_of(c));
    Rng rng(3);
    constexpr std::int64_t kTokens = 2700;
    constexpr std::int64_t kFirst = kTokens - 100;
    Tokens tokens(rng, c.shape, c.dtype, kTokens);
    TestCache cache(c.shape, c.dtype, kTokens / kPageTokens + 1, 9);
    TestMatrix plain(c.dtype, kTokens, c.shape.heads * c.shape.head_dim);
    for (const auto& [begin, end] : {std::pair{std::int64_t{0}, kFirst}, {kFirst, kTokens}})
      run_chunk({pool_of(5), c.isa}, c.shape, tokens, cache, begin, end, plain);
    for (const int workers : {1, 5}) {
      OtherAttention other(c, pool_of(workers));
      const KernelContext context{pool_of(workers), c.isa, Urgency::kNormal, &other};
      TestMatrix out(c.dtype, kTokens, c.shape.heads * c.shape.head_dim);
      run_chunk(context, c.shape, tokens, cache, kFirst, kTokens, out);
      for (std::int64_t r = kFirst; r < kTokens; ++r)
        ASSERT_TRUE(same_row_bits(out, r, plain, r)) << r;
      if (workers > 1 || c.shape.window > 0 || c.shape.head_dim < 64) continue;
      // More often than between tasks: a tile of 96 rows and 2 700 keys is a long one.
      const std::int64_t positions = kTileRows / (c.shape.heads / c.shape.kv_heads);
      const std::int64_t tiles = c.shape.kv_heads * ((99 + positions) / positions);
      EXPECT_GE(other.calls(), 2 * tiles);
    }
  }
}

TEST(AttentionTest, OtherSequencesOfTheBatchDoNotMatter) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(name_of(c));
    Rng rng(4);
    // Sequences of a batch: how many tokens are cached, and how many rows are new.
    const std::vector<std::pair<std::int64_t, std::int64_t>> parts = {
        {70, 1}, {0, 45}, {600, 1}, {33, 20}};
    std::vector<Tokens> tokens;
    std::vector<TestMatrix> alone;
    std::int64_t rows = 0;
    for (const auto& [cached, fresh] : parts) {
      tokens.emplace_back(rng, c.shape, c.dtype, cached + fresh);
      std::vector<std::int64_t> chunks = {fresh};
      if (cached > 0) chunks.insert(chunks.begin(), cached);
      alone.push_back(run_in_chunks({pool_of(1), c.isa}, c.shape, c.dtype, tokens.back(), chunks));
      rows += fresh;
    }
    TestCache cache(c.shape, c.dtype, 100, 5);
    TestMatrix q(c.dtype, rows, c.shape.heads * c.shape.head_dim, 16);
    TestMatrix out(c.dtype, rows, c.shape.heads * c.shape.head_dim, 32);
    std::vector<AttentionSequence> batch;
    std::int64_t row = 0;
    std::int64_t page = 0;
    for (std::size_t s = 0; s < parts.size(); ++s) {
      const auto& [cached, fresh] = parts[s];
      const AttentionSequence all{0, cached + fresh, 0, cache.table(page)};
      write_kv({pool_of(5), c.isa}, tokens[s].k.view(), tokens[s].v.view(), {&all, 1},
               cache.layer());
      for (std::int64_t r = 0; r < fresh; ++r) {
        std::memcpy(q.view().row(row + r), tokens[s].q.view().row(cached + r),
                    static_cast<std::size_t>(q.view().cols) * size_of(c.dtype));
      }
      batch.push_back({row, fresh, cached, cache.table(page)});
      row += fresh;
      page += (cached + fresh + kPageTokens - 1) / kPageTokens;
    }
    AttentionWorkspace workspace;
    paged_attention({pool_of(5), c.isa}, c.shape, q.view(), batch, cache.layer(), workspace,
                    out.view());
    for (std::size_t s = 0; s < parts.size(); ++s) {
      for (std::int64_t r = 0; r < parts[s].second; ++r) {
        ASSERT_TRUE(same_row_bits(out, batch[s].first_row + r, alone[s], parts[s].first + r)) << s;
      }
    }
  }
}

TEST(AttentionTest, KeysOutsideTheWindowMayHoldAnything) {
  for (const Case& c : cases()) {
    if (c.shape.window == 0) continue;
    SCOPED_TRACE(name_of(c));
    Rng rng(6);
    constexpr std::int64_t kTokens = 400;
    Tokens tokens(rng, c.shape, c.dtype, kTokens);
    const KernelContext context{pool_of(1), c.isa};
    const TestMatrix whole = run_in_chunks(context, c.shape, c.dtype, tokens, {kTokens});
    // Only the window before the last 50 tokens is ever written; older pages are not even in the
    // table.
    constexpr std::int64_t kFresh = 50;
    const std::int64_t first = kTokens - kFresh - c.shape.window + 1;
    TestCache cache(c.shape, c.dtype, kTokens / kPageTokens, 7);
    std::vector<std::int32_t> table(cache.table(), cache.table() + kTokens / kPageTokens);
    for (std::int64_t i = 0; i < first / kPageTokens; ++i) {
      table[static_cast<std::size_t>(i)] = std::numeric_limits<std::int32_t>::max();
    }
    const AttentionSequence written{0, kTokens - first, first, table.data()};
    write_kv(context, tokens.k.view().rows_at(first, kTokens - first),
             tokens.v.view().rows_at(first, kTokens - first), {&written, 1}, cache.layer());
    const AttentionSequence asked{0, kFresh, kTokens - kFresh, table.data()};
    TestMatrix out(c.dtype, kFresh, c.shape.heads * c.shape.head_dim);
    AttentionWorkspace workspace;
    paged_attention(context, c.shape, tokens.q.view().rows_at(kTokens - kFresh, kFresh),
                    {&asked, 1}, cache.layer(), workspace, out.view());
    for (std::int64_t r = 0; r < kFresh; ++r) {
      ASSERT_TRUE(same_row_bits(out, r, whole, kTokens - kFresh + r)) << r;
    }
  }
}

}  // namespace
}  // namespace gimbal::kernels
