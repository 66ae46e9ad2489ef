#include "kernels/expert_ffn.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/panel_task.h"

namespace gimbal::kernels {

using tensor::ConstMatrixView;
using tensor::DType;
using tensor::MatrixView;

namespace {

constexpr std::int64_t kRowAlignment = 64;
constexpr std::int64_t kRunRows = 16;  // a run's rows are padded to it: the most of row_multiple
constexpr std::size_t kGatherBytes = 64 << 10;  // of one task

// Bytes between rows of our own: a whole number of cache lines, an odd one, so that rows do not
// fall into the same sets of a cache.
std::int64_t row_bytes_of(DType dtype, std::int64_t elements) {
  const std::int64_t bytes = elements * static_cast<std::int64_t>(size_of(dtype));
  return ((bytes + kRowAlignment - 1) / kRowAlignment | 1) * kRowAlignment;
}

std::int64_t padded_run(std::int64_t rows) {
  return (rows + kRunRows - 1) / kRunRows * kRunRows;
}

// Rows of our own that the runs of a call within the limits need.
std::int64_t most_run_rows(const ExpertFfnWorkspace::Limits& limits) {
  return limits.rows + std::min(limits.rows, limits.runs) * (kRunRows - 1);
}

std::int64_t rows_of(const ExpertRun& run) {
  return static_cast<std::int64_t>(run.input_rows.size());
}

}  // namespace

ExpertFfnWorkspace::ExpertFfnWorkspace(const Limits& limits)
    : limits_(limits),
      gathered_(static_cast<std::size_t>(most_run_rows(limits) *
                                         row_bytes_of(limits.dtype, limits.hidden)),
                tensor::PageKind::kSmall),
      activations_(static_cast<std::size_t>(most_run_rows(limits) *
                                            row_bytes_of(limits.dtype, limits.intermediate))),
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
        gathered_(workspace.gathered_.data()),
        activations_(workspace.activations_.data()),
        plans_(std::span(workspace.plans_).first(runs.size())) {
    plan(workspace.limits());
  }

  void run() {
    if (gathers_) gather();
    context_.run(gate_up_tasks_, [this](int task, int) { gate_up(task); });
    context_.run(down_tasks_, [this](int task, int) { down(task); });
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
  [[nodiscard]] Task find(int task, int RunPlan::*first_task, PanelCut RunPlan::*cut) const;
  void gate_up(int task) const;
  void down(int task) const;
  void gather() const;
  // Runs of many rows are worth a copy in the order that the kernel reads in place.
  [[nodiscard]] bool gathered(const ExpertRun& run) const {
    return kernel_.reads_in_place && rows_of(run) > kRunRows;
  }
  [[nodiscard]] std::byte* gathered_row(int run, std::int64_t row) const {
    return gathered_ + (plans_[run].first_row + row) * gathered_row_bytes_;
  }
  [[nodiscard]] std::byte* activation_row(int run, std::int64_t row) const {
    return activations_ + (plans_[run].first_row + row) * activation_row_bytes_;
  }

  const KernelContext& context_;
  const PanelKernel& kernel_;
  ConstMatrixView input_;
  std::span<const ExpertRun> runs_;
  MatrixView output_;
  std::byte* gathered_;
  std::byte* activations_;
  std::int64_t gathered_row_bytes_ = 0;
  std::int64_t activation_row_bytes_ = 0;
  bool gathers_ = false;
  std::span<RunPlan> plans_;
  int gate_up_tasks_ = 0;
  int down_tasks_ = 0;
};

void ExpertFfnCall::plan(const ExpertFfnWorkspace::Limits& limits) {
  std::int64_t gate_up_panels = 0;
  std::int64_t down_panels = 0;
  std::int64_t rows = 0;
  std::int64_t run_rows = 0;
  gathered_row_bytes_ = row_bytes_of(input_.dtype, input_.cols);
  activation_row_bytes_ = row_bytes_of(input_.dtype, limits.intermediate);
  GIMBAL_CHECK(input_.cols <= limits.hidden);
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    const ExpertRun& run = runs_[i];
    const ExpertWeights& weights = *run.weights;
    GIMBAL_CHECK(run.input_rows.size() == run.output_rows.size());
    GIMBAL_CHECK(weights.gate_up.dtype == input_.dtype && weights.down.dtype == input_.dtype);
    GIMBAL_CHECK(weights.gate_up.k == input_.cols && weights.down.n == output_.cols);
    GIMBAL_CHECK(weights.gate_up.n == gate_up_rows(weights.down.k));
    GIMBAL_CHECK(weights.down.k <= limits.intermediate);
    const bool in_place = gathered(run) && reads_in_place(kernel_, weights.gate_up) &&
                          reads_in_place(kernel_, weights.down);
    const RowBlocks blocks(rows_of(run), kernel_,
                           std::max(gathered_row_bytes_, activation_row_bytes_), in_place);
    plans_[i] = {.first_row = run_rows, .row_blocks = blocks.count, .block_size = blocks.size};
    gathers_ = gathers_ || gathered(run);
    gate_up_panels += panels_of(weights.gate_up.n) * blocks.count;
    down_panels += panels_of(weights.down.n) * blocks.count;
    rows += rows_of(run);
    run_rows += padded_run(rows_of(run));
  }
  GIMBAL_CHECK(rows <= limits.rows);
  RegionShare gate_up{gate_up_panels, gate_up_panels, context_.pool.workers()};
  RegionShare down{down_panels, down_panels, context_.pool.workers()};
  const auto cut = [](const PackedMatrixView& w, const RunPlan& plan, RegionShare& share) {
    share.behind -= panels_of(w.n) * plan.row_blocks;
    return cut_panels(w, plan.block_size, plan.row_blocks, share);
  };
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    RunPlan& plan = plans_[i];
    const ExpertWeights& weights = *runs_[i].weights;
    plan.gate_up_first = gate_up_tasks_;
    plan.down_first = down_tasks_;
    plan.gate_up = cut(weights.gate_up, plan, gate_up);
    plan.down = cut(weights.down, plan, down);
    gate_up_tasks_ += plan.gate_up.tasks() * plan.row_blocks;
    down_tasks_ += plan.down.tasks() * plan.row_blocks;
  }
}

ExpertFfnCall::Task ExpertFfnCall::find(int task, int RunPlan::*first_task,
                                        PanelCut RunPlan::*cut) const {
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
  const PanelCut::Range range = (plan.*cut).range(index / plan.row_blocks);
  found.first_panel = range.first;
  found.panels = range.count;
  return found;
}

void ExpertFfnCall::gather() const {
  const auto row_bytes = static_cast<std::size_t>(gathered_row_bytes_);
  const auto task_rows =
      static_cast<std::int64_t>(std::max<std::size_t>(1, kGatherBytes / row_bytes));
  std::int64_t total = 0;
  for (const ExpertRun& run : runs_)
    total += rows_of(run);
  const auto input_bytes = static_cast<std::size_t>(input_.cols) * size_of(input_.dtype);
  // Rows are counted over all runs; those of runs that are not gathered are passed over.
  context_.run(static_cast<int>((total + task_rows - 1) / task_rows), [&](int task, int) {
    const std::int64_t begin = task * task_rows;
    std::int64_t before = 0;  // rows of earlier runs
    for (std::size_t i = 0; i < runs_.size() && before < begin + task_rows; ++i) {
      const ExpertRun& run = runs_[i];
      const std::int64_t first = std::max<std::int64_t>(begin - before, 0);
      const std::int64_t end = std::min(begin + task_rows - before, rows_of(run));
      before += rows_of(run);
      if (!gathered(run)) continue;
      for (std::int64_t row = first; row < end; ++row)
        std::memcpy(gathered_row(static_cast<int>(i), row), input_.row(run.input_rows[row]),
                    input_bytes);
    }
  });
}

void ExpertFfnCall::gate_up(int number) const {
  const Task task = find(number, &RunPlan::gate_up_first, &RunPlan::gate_up);
  const ExpertRun& run = runs_[task.run];
  const bool in_order = gathered(run);
  TileScratch scratch;
  if (in_order || task.rows == 1) {
    scratch.spaced_rows = in_order ? static_cast<int>(padded_run(task.rows)) : 1;
    scratch.spacing = gathered_row_bytes_;
  }
  for (int row = 0; row < task.rows; ++row) {
    const int at = task.first_row + row;
    scratch.inputs[row] = in_order ? gathered_row(task.run, at) : input_.row(run.input_rows[at]);
    scratch.outputs[row] = activation_row(task.run, task.first_row + row);
  }
  const auto finish = [&](const FinishedTile& tile) {
    for (int panel = 0; panel < tile.panels; panel += 2) {
      const std::int64_t column = (tile.first_panel + panel) / 2 * kPanelWidth;
      kernel_.store_swiglu(scratch.panel(panel), scratch.panel(panel + 1), tile.rows,
                           panel_output(scratch, tile, column, run.weights->down.k, input_.dtype));
    }
  };
  multiply_tile(kernel_, run.weights->gate_up, task.rows, task.first_panel, task.panels, scratch,
                finish);
}

void ExpertFfnCall::down(int number) const {
  const Task task = find(number, &RunPlan::down_first, &RunPlan::down);
  const ExpertRun& run = runs_[task.run];
  TileScratch scratch;
  scratch.spaced_rows = static_cast<int>(padded_run(task.rows));
  scratch.spacing = activation_row_bytes_;
  for (int row = 0; row < task.rows; ++row) {
    scratch.inputs[row] = activation_row(task.run, task.first_row + row);
    scratch.outputs[row] = output_.row(run.output_rows[task.first_row + row]);
  }
  const auto finish = [&](const FinishedTile& tile) {
    for (int panel = 0; panel < tile.panels; ++panel) {
      const std::int64_t column = (tile.first_panel + panel) * kPanelWidth;
      kernel_.store(scratch.panel(panel), tile.rows, nullptr, false,
                    panel_output(scratch, tile, column, run.weights->down.n, output_.dtype));
    }
  };
  multiply_tile(kernel_, run.weights->down, task.rows, task.first_panel, task.panels, scratch,
                finish);
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
