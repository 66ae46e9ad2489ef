#include "kernels/expert_ffn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>

#include "kernels/test_weights.h"

namespace gimbal::kernels {
namespace {

using tensor::DType;

struct Case {
  Isa isa;
  DType dtype;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << to_string(c.isa) << "_" << to_string(c.dtype);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Isa isa : supported_levels()) {
    all.push_back({isa, DType::kF32});
    all.push_back({isa, DType::kBF16});
  }
  return all;
}

class ExpertFfn : public testing::TestWithParam<Case> {};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ExpertFfn);
INSTANTIATE_TEST_SUITE_P(EachLevel, ExpertFfn, testing::ValuesIn(cases()), [](const auto& test) {
  return std::string(to_string(test.param.isa)) + "_" + std::string(to_string(test.param.dtype));
});

struct Expert {
  TestWeights gate_up;
  TestWeights down;
  ExpertWeights weights;

  // Rows of gate and up beyond an odd intermediate size are random too: they must not matter.
  Expert(DType dtype, std::int64_t hidden, std::int64_t intermediate, std::uint64_t seed)
      : gate_up(dtype, gate_up_rows(intermediate), hidden, seed),
        down(dtype, hidden, intermediate, seed + 1),
        weights{gate_up.view(), down.view()} {}
};

// Runs with their row lists.
struct Routing {
  std::vector<std::vector<std::int32_t>> inputs;
  std::vector<std::vector<std::int32_t>> outputs;
  std::vector<ExpertRun> runs;
  std::int32_t rows = 0;

  void add(const Expert& expert, std::vector<std::int32_t> input_rows) {
    std::vector<std::int32_t> output_rows(input_rows.size());
    std::iota(output_rows.begin(), output_rows.end(), rows);
    std::reverse(output_rows.begin(), output_rows.end());
    rows += static_cast<std::int32_t>(input_rows.size());
    inputs.push_back(std::move(input_rows));
    outputs.push_back(std::move(output_rows));
    runs.push_back({&expert.weights, inputs.back(), outputs.back()});
  }
};

std::vector<std::int32_t> some_rows(std::int64_t count, std::int64_t available, Rng& rng) {
  std::vector<std::int32_t> rows(available);
  std::iota(rows.begin(), rows.end(), 0);
  std::shuffle(rows.begin(), rows.end(), rng);
  rows.resize(count);
  return rows;
}

TEST_P(ExpertFfn, AgreesWithTheReference) {
  const auto [isa, dtype] = GetParam();
  ThreadPool pool({.workers = 2, .pin = false});
  const KernelContext context{pool, isa};
  Rng rng(1);
  for (const auto& [hidden, intermediate] :
       {std::pair{64, 96}, std::pair{64, 48}, std::pair{45, 37}}) {
    const Expert first(dtype, hidden, intermediate, 1);
    const Expert second(dtype, hidden, intermediate, 2);
    const Expert smaller(dtype, hidden, 16, 3);
    const TestMatrix input = random_matrix(dtype, 150, hidden, 4, 1);
    Routing routing;
    routing.add(first, some_rows(5, 150, rng));
    routing.add(second, {});
    routing.add(smaller, some_rows(140, 150, rng));
    routing.add(second, {149});
    routing.add(first, some_rows(0, 150, rng));
    ExpertFfnWorkspace workspace({.dtype = dtype,
                                  .rows = routing.rows,
                                  .hidden = hidden,
                                  .intermediate = intermediate,
                                  .runs = 5});
    for (const DType out_type : {DType::kF32, DType::kBF16}) {
      TestMatrix got(out_type, routing.rows, hidden);
      TestMatrix want(out_type, routing.rows, hidden);
      expert_ffn(context, input.view(), routing.runs, got.view(), workspace);
      expert_ffn_reference(input.view(), routing.runs, want.view());
      const bool exact = dtype == DType::kF32 && out_type == DType::kF32;
      for (std::int64_t row = 0; row < routing.rows; ++row) {
        for (std::int64_t col = 0; col < hidden; ++col) {
          const double scale = std::abs(want.at(row, col)) + std::sqrt(intermediate) * 2;
          ASSERT_NEAR(got.at(row, col), want.at(row, col), scale * (exact ? 2e-6 : 1.0 / 200))
              << "row " << row << " column " << col;
        }
      }
    }
  }
}

// A row's output is the output of that row alone, whatever rows, runs and workers are beside it.
TEST_P(ExpertFfn, ARowDoesNotDependOnRunsOrWorkers) {
  const auto [isa, dtype] = GetParam();
  constexpr std::int64_t kHidden = 96;
  constexpr std::int64_t kIntermediate = 160;
  constexpr std::int64_t kRows = 100;
  std::vector<std::unique_ptr<Expert>> experts;
  for (int i = 0; i < 4; ++i)
    experts.push_back(std::make_unique<Expert>(dtype, kHidden, kIntermediate, 10 + i));
  const TestMatrix input = random_matrix(dtype, kRows, kHidden, 20);
  ExpertFfnWorkspace workspace({.dtype = dtype,
                                .rows = 4 * kRows,
                                .hidden = kHidden,
                                .intermediate = kIntermediate,
                                .runs = 16});

  std::vector<TestMatrix> alone;
  {
    ThreadPool pool({.workers = 1});
    for (const auto& expert : experts) {
      alone.emplace_back(dtype, kRows, kHidden);
      for (std::int32_t row = 0; row < kRows; ++row) {
        const ExpertRun run{&expert->weights, {&row, 1}, {&row, 1}};
        expert_ffn({pool, isa}, input.view(), {&run, 1}, alone.back().view(), workspace);
      }
    }
  }
  Rng rng(2);
  for (const int workers : {1, 2, 3, 8}) {
    ThreadPool pool({.workers = workers, .pin = false});
    for (int round = 0; round < 12; ++round) {
      Routing routing;
      std::vector<int> chosen;
      for (int run = 0; run < 1 + round; ++run) {
        chosen.push_back(static_cast<int>(rng.below(4)));
        const std::int64_t most = run == 0 ? kRows : 12;
        routing.add(*experts[chosen.back()], some_rows(rng.between(0, most), kRows, rng));
      }
      TestMatrix got(dtype, routing.rows, kHidden);
      expert_ffn({pool, isa}, input.view(), routing.runs, got.view(), workspace);
      for (std::size_t run = 0; run < routing.runs.size(); ++run) {
        for (std::size_t i = 0; i < routing.inputs[run].size(); ++i) {
          ASSERT_TRUE(same_row_bits(got, routing.outputs[run][i], alone[chosen[run]],
                                    routing.inputs[run][i]))
              << "run " << run << " row " << i << ", " << workers << " workers";
        }
      }
    }
  }
}

TEST_P(ExpertFfn, LargeGatesNeitherOverflowNorVanish) {
  const auto [isa, dtype] = GetParam();
  ThreadPool pool({.workers = 1});
  Expert expert(dtype, 16, 16, 1);
  TestMatrix input(dtype, 2, 16);
  for (std::int64_t col = 0; col < 16; ++col) {
    set_element(input.view(), 0, col, 1000.0F);
    set_element(input.view(), 1, col, -1000.0F);
  }
  const std::vector<std::int32_t> rows = {0, 1};
  const ExpertRun run{&expert.weights, rows, rows};
  ExpertFfnWorkspace workspace(
      {.dtype = dtype, .rows = 2, .hidden = 16, .intermediate = 16, .runs = 1});
  TestMatrix got(DType::kF32, 2, 16);
  TestMatrix want(DType::kF32, 2, 16);
  expert_ffn({pool, isa}, input.view(), {&run, 1}, got.view(), workspace);
  expert_ffn_reference(input.view(), {&run, 1}, want.view());
  for (std::int64_t row = 0; row < 2; ++row) {
    for (std::int64_t col = 0; col < 16; ++col)
      EXPECT_NEAR(got.at(row, col), want.at(row, col), 1e5);
  }
}

}  // namespace
}  // namespace gimbal::kernels
