#include "kernels/expert_ffn.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/panel_task.h"

namespace gimbal::kernels {

using tensor::ConstMatrixView;
using tensor::DType;
using tensor::MatrixView;

namespace {

constexpr std::size_t kRowAlignment = 64;

// Bytes between activation rows: a whole number of cache lines, an odd one, so that rows do not
// fall into the same sets of a cache.
std::size_t activation_row_bytes(DType dtype, std::int64_t intermediate) {
  const std::size_t bytes = static_cast<std::size_t>(intermediate) * size_of(dtype);
  return ((bytes + kRowAlignment - 1) / kRowAlignment | 1) * kRowAlignment;
}

std::int64_t rows_of(const ExpertRun& run) {
  return static_cast<std::int64_t>(run.input_rows.size());
}

}  // namespace

ExpertFfnWorkspace::ExpertFfnWorkspace(const Limits& limits)
    : limits_(limits),
      activations_(static_cast<std::size_t>(limits.rows) *
                   activation_row_bytes(limits.dtype, limits.intermediate)),
      plans_(static_cast<std::size_t>(limits.runs)) {}

// One call: the plan of its tasks, and the two products.
class ExpertFfnCall {
 public:
  ExpertFfnCall(const KernelContext& context, ConstMatrixView input,
                std::span<const ExpertRun> runs, MatrixView output, ExpertFfnWorkspace& workspace)
      : context_(context),
        kernel_(panel_kernel(context.isa, input.dtype)),
        input_(input),
        runs_(runs),
        output_(output),
        activations_(workspace.activations_.data()),
        plans_(std::span(workspace.plans_).first(runs.size())) {
    plan(workspace.limits());
  }

  void run() {
    context_.pool.run(gate_up_tasks_, [this](int task, int) { gate_up(task); });
    context_.pool.run(down_tasks_, [this](int task, int) { down(task); });
  }

 private:
  using RunPlan = ExpertFfnWorkspace::RunPlan;

  // The part of a run's product that one task computes.
  struct Task {
    int run = 0;
    int first_row = 0;
    int rows = 0;
    std::int64_t first_panel = 0;
    int panels = 0;
  };

  void plan(const ExpertFfnWorkspace::Limits& limits);
  [[nodiscard]] Task find(int task, int RunPlan::*first_task, int RunPlan::*group,
                          PackedMatrixView ExpertWeights::*matrix) const;
  void gate_up(int task) const;
  void down(int task) const;
  [[nodiscard]] std::byte* activation_row(int run, std::int64_t row) const {
    const std::size_t bytes = activation_row_bytes(input_.dtype, runs_[run].weights->down.k);
    return activations_ + plans_[run].activation_offset + static_cast<std::size_t>(row) * bytes;
  }

  const KernelContext& context_;
  const PanelKernel& kernel_;
  ConstMatrixView input_;
  std::span<const ExpertRun> runs_;
  MatrixView output_;
  std::byte* activations_;
  std::span<RunPlan> plans_;
  int gate_up_tasks_ = 0;
  int down_tasks_ = 0;
};

void ExpertFfnCall::plan(const ExpertFfnWorkspace::Limits& limits) {
  std::int64_t gate_up_panels = 0;
  std::int64_t down_panels = 0;
  std::int64_t rows = 0;
  std::size_t offset = 0;
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    const ExpertRun& run = runs_[i];
    const ExpertWeights& weights = *run.weights;
    GIMBAL_CHECK(run.input_rows.size() == run.output_rows.size());
    GIMBAL_CHECK(weights.gate_up.dtype == input_.dtype && weights.down.dtype == input_.dtype);
    GIMBAL_CHECK(weights.gate_up.k == input_.cols && weights.down.n == output_.cols);
    GIMBAL_CHECK(weights.gate_up.n == gate_up_rows(weights.down.k));
    GIMBAL_CHECK(weights.down.k <= limits.intermediate);
    const RowBlocks blocks(rows_of(run), kernel_.row_multiple);
    plans_[i] = {
        .activation_offset = offset, .row_blocks = blocks.count, .block_size = blocks.size};
    gate_up_panels += panels_of(weights.gate_up.n) * blocks.count;
    down_panels += panels_of(weights.down.n) * blocks.count;
    rows += rows_of(run);
    offset +=
        static_cast<std::size_t>(rows_of(run)) * activation_row_bytes(input_.dtype, weights.down.k);
  }
  GIMBAL_CHECK(rows <= limits.rows);
  const int workers = context_.pool.workers();
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    RunPlan& plan = plans_[i];
    const ExpertWeights& weights = *runs_[i].weights;
    plan.gate_up_first = gate_up_tasks_;
    plan.down_first = down_tasks_;
    plan.gate_up_group = panels_per_task(weights.gate_up, plan.block_size, gate_up_panels, workers);
    plan.down_group = panels_per_task(weights.down, plan.block_size, down_panels, workers);
    const auto tasks = [&](const PackedMatrixView& w, int group) {
      return static_cast<int>((panels_of(w.n) + group - 1) / group) * plan.row_blocks;
    };
    gate_up_tasks_ += tasks(weights.gate_up, plan.gate_up_group);
    down_tasks_ += tasks(weights.down, plan.down_group);
  }
}

ExpertFfnCall::Task ExpertFfnCall::find(int task, int RunPlan::*first_task, int RunPlan::*group,
                                        PackedMatrixView ExpertWeights::*matrix) const {
  // The last run that starts at or before the task; runs without rows have no tasks.
  const auto after = std::upper_bound(
      plans_.begin(), plans_.end(), task,
      [first_task](int number, const RunPlan& plan) { return number < plan.*first_task; });
  const RunPlan& plan = *(after - 1);
  Task found;
  found.run = static_cast<int>(&plan - plans_.data());
  const int index = task - plan.*first_task;
  // Row blocks on the same panels follow each other, while the panels are cached.
  found.first_row = index % plan.row_blocks * plan.block_size;
  found.rows =
      std::min(plan.block_size, static_cast<int>(rows_of(runs_[found.run])) - found.first_row);
  found.first_panel = static_cast<std::int64_t>(index / plan.row_blocks) * (plan.*group);
  const std::int64_t panels = panels_of((runs_[found.run].weights->*matrix).n);
  found.panels = static_cast<int>(std::min<std::int64_t>(plan.*group, panels - found.first_panel));
  return found;
}

void ExpertFfnCall::gate_up(int number) const {
  const Task task =
      find(number, &RunPlan::gate_up_first, &RunPlan::gate_up_group, &ExpertWeights::gate_up);
  const ExpertRun& run = runs_[task.run];
  TileScratch scratch;
  for (int row = 0; row < task.rows; ++row) {
    scratch.inputs[row] = input_.row(run.input_rows[task.first_row + row]);
    scratch.outputs[row] = activation_row(task.run, task.first_row + row);
  }
  multiply_tile(kernel_, run.weights->gate_up, task.rows, task.first_panel, task.panels, scratch);
  for (int panel = 0; panel < task.panels; panel += 2) {
    const std::int64_t column = (task.first_panel + panel) / 2 * kPanelWidth;
    kernel_.store_swiglu(scratch.panel(panel), scratch.panel(panel + 1), task.rows,
                         {.rows = scratch.outputs,
                          .offset = static_cast<std::size_t>(column) * size_of(input_.dtype),
                          .lanes = static_cast<int>(
                              std::min<std::int64_t>(kPanelWidth, run.weights->down.k - column)),
                          .dtype = input_.dtype});
  }
}

void ExpertFfnCall::down(int number) const {
  const Task task = find(number, &RunPlan::down_first, &RunPlan::down_group, &ExpertWeights::down);
  const ExpertRun& run = runs_[task.run];
  TileScratch scratch;
  for (int row = 0; row < task.rows; ++row) {
    scratch.inputs[row] = activation_row(task.run, task.first_row + row);
    scratch.outputs[row] = output_.row(run.output_rows[task.first_row + row]);
  }
  multiply_tile(kernel_, run.weights->down, task.rows, task.first_panel, task.panels, scratch);
  for (int panel = 0; panel < task.panels; ++panel) {
    const std::int64_t column = (task.first_panel + panel) * kPanelWidth;
    kernel_.store(scratch.panel(panel), task.rows, nullptr, false,
                  {.rows = scratch.outputs,
                   .offset = static_cast<std::size_t>(column) * size_of(output_.dtype),
                   .lanes = static_cast<int>(
                       std::min<std::int64_t>(kPanelWidth, run.weights->down.n - column)),
                   .dtype = output_.dtype});
  }
}

void expert_ffn(const KernelContext& context, ConstMatrixView input,
                std::span<const ExpertRun> runs, MatrixView output, ExpertFfnWorkspace& workspace) {
  if (context.isa == Isa::kReference) {
    expert_ffn_reference(input, runs, output);
    return;
  }
  GIMBAL_CHECK(input.dtype == workspace.limits().dtype);
  GIMBAL_CHECK(static_cast<std::int64_t>(runs.size()) <= workspace.limits().runs);
  GIMBAL_CHECK(output.dtype == DType::kF32 || output.dtype == DType::kBF16);
  ExpertFfnCall(context, input, runs, output, workspace).run();
}

}  // namespace gimbal::kernels
