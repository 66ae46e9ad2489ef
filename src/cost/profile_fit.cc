#include "cost/profile_fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace gimbal::cost {
namespace {

constexpr std::size_t kLeastSteps = 50;
constexpr std::size_t kMostSteps = 600;  // that a fit looks at, evenly spread
constexpr double kLinearBeyond = 0.2;    // of log(predicted / measured)
constexpr double kLeastMs = 1e-6;
// Of times in us and rates in GB/s and TFLOP/s: beyond, they make no difference to any step.
constexpr double kLeastFitted = 1e-4;
constexpr double kMostFitted = 1e6;

// One descent of a simplex; `values` and `corners` belong together.
class Simplex {
 public:
  using Function = std::function<double(std::span<const double>)>;

  Simplex(const Function& function, const std::vector<double>& start) : function_(function) {
    corners_.push_back(start);
    for (std::size_t i = 0; i < start.size(); ++i) {
      corners_.push_back(start);
      corners_.back()[i] += kFirstStep;
    }
    for (const auto& corner : corners_)
      values_.push_back(function_(corner));
  }

  void descend() {
    for (int round = 0; round < kMostRounds; ++round) {
      sort();
      if (values_.back() - values_.front() < kConverged * (std::abs(values_.front()) + kConverged))
        return;
      step();
    }
    sort();
  }

  [[nodiscard]] const std::vector<double>& best() const { return corners_.front(); }
  [[nodiscard]] double value() const { return values_.front(); }

 private:
  static constexpr double kFirstStep = 0.3;
  static constexpr double kConverged = 1e-9;
  static constexpr int kMostRounds = 2'000;

  void sort() {
    std::vector<std::size_t> order(values_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, {}, [this](std::size_t i) { return values_[i]; });
    std::vector<std::vector<double>> corners;
    std::vector<double> values;
    for (const std::size_t i : order) {
      corners.push_back(std::move(corners_[i]));
      values.push_back(values_[i]);
    }
    corners_ = std::move(corners);
    values_ = std::move(values);
  }

  // The worst corner, moved through the centre of the others: -1 mirrors it.
  [[nodiscard]] std::vector<double> moved(double by) const {
    std::vector<double> result(corners_.front().size());
    for (std::size_t i = 0; i < result.size(); ++i) {
      double centre = 0;
      for (std::size_t corner = 0; corner + 1 < corners_.size(); ++corner)
        centre += corners_[corner][i];
      centre /= static_cast<double>(result.size());
      result[i] = centre + by * (corners_.back()[i] - centre);
    }
    return result;
  }

  // Requires: sorted.
  void step() {
    std::vector<double> tried = moved(-1);
    double value = function_(tried);
    if (value < values_.front()) {
      std::vector<double> further = moved(-2);
      if (const double further_value = function_(further); further_value < value) {
        tried = std::move(further);
        value = further_value;
      }
    } else if (value >= values_[values_.size() - 2]) {
      tried = moved(0.5);
      value = function_(tried);
      if (value >= values_.back()) {
        shrink();
        return;
      }
    }
    corners_.back() = std::move(tried);
    values_.back() = value;
  }

  void shrink() {
    for (std::size_t corner = 1; corner < corners_.size(); ++corner) {
      for (std::size_t i = 0; i < corners_[corner].size(); ++i)
        corners_[corner][i] = 0.5 * (corners_[corner][i] + corners_.front()[i]);
      values_[corner] = function_(corners_[corner]);
    }
  }

  const Function& function_;
  std::vector<std::vector<double>> corners_;
  std::vector<double> values_;
};

// What is fitted together: numbers of the profile, and the time that they explain.
struct Part {
  std::string what;
  std::vector<std::string> names;
  std::vector<double*> fields;  // into `profile`, positive or 0
  std::vector<double*> losses;  // overlap losses, [0, 1]
  std::vector<std::string> loss_names;
  std::function<double(const MeasuredStep&)> measured;
  std::function<double(const CostModel&, const MeasuredStep&)> predicted;
};

double loss_of(double predicted, double measured) {
  const double error = std::log(std::max(predicted, kLeastMs) / std::max(measured, kLeastMs));
  const double size = std::abs(error);
  return size < kLinearBeyond ? error * error : kLinearBeyond * (2 * size - kLinearBeyond);
}

double predicted_service(const CostModel& model, const MeasuredStep& step) {
  const double rows = (step.work.prefill_rows + step.work.decodes) *
                      static_cast<double>(model.model().experts_per_token);
  const int layers = model.moe_layers();
  return layers == 0 ? 0 : layers * model.service_ms(rows, step.distinct_experts / layers);
}
double predicted_layers(const CostModel& model, const MeasuredStep& step) {
  return model.moe_layers() * model.attention_ms(step.work) +
         (model.layers() - model.moe_layers()) * model.dense_layer_ms(step.work);
}
double predicted_attention(const CostModel& model, const MeasuredStep& step) {
  if (step.work.sampled == 0) return predicted_layers(model, step);
  const double head = model.model().head_parameters;
  return predicted_layers(model, step) +
         model.profile().step.head.ms(head * model.model().bytes_per_parameter,
                                      2 * step.work.sampled * head);
}

// Fits parts of one profile to steps of one model.
class Fit {
 public:
  Fit(const ModelShape& model, std::span<const MeasuredStep> steps, const HardwareProfile& start,
      std::string_view origin)
      : model_(model), profile_(start), origin_(origin) {
    const std::size_t stride = (steps.size() + kMostSteps - 1) / kMostSteps;
    for (std::size_t i = 0; i < steps.size(); i += stride)
      looked_at_.push_back(steps[i]);
    all_.assign(steps.begin(), steps.end());
    profile_.fitted.clear();
  }

  void run() {
    fit(experts());
    scale_experts();
    fit(attention());
    scale_attention();
    fit_step();
    for (const Part& part : {experts(), attention(), whole()})
      note(part);
  }

  HardwareProfile take() { return std::move(profile_); }

 private:
  [[nodiscard]] CostModel model() const { return *CostModel::make(model_, profile_); }

  Part experts() {
    ExpertCost& cost = profile_.experts;
    return {.what = "experts: service time against rows and distinct experts",
            .names = {"experts.layer_us", "experts.products.stream_gb_per_s",
                      "experts.products.compute_tflop_per_s"},
            .fields = {&cost.layer_us, &cost.products.stream_gb_per_s,
                       &cost.products.compute_tflop_per_s},
            .losses = {&cost.products.overlap_loss},
            .loss_names = {"experts.products.overlap_loss"},
            .measured = [](const MeasuredStep& step) { return step.service_ms; },
            .predicted = predicted_service};
  }

  Part attention() {
    AttentionCost& cost = profile_.attention;
    return {.what = "attention: time of a rank's own stages against rows, decodes and contexts",
            .names = {"attention.layer_us", "attention.decode_us",
                      "attention.projections.compute_tflop_per_s", "attention.kv_gb_per_s",
                      "attention.prefill_tflop_per_s"},
            .fields = {&cost.layer_us, &cost.decode_us, &cost.projections.compute_tflop_per_s,
                       &cost.kv_gb_per_s, &cost.prefill_tflop_per_s},
            .losses = {&cost.projections.overlap_loss},
            .loss_names = {"attention.projections.overlap_loss"},
            .measured = [](const MeasuredStep& step) { return step.attention_ms; },
            .predicted = predicted_attention};
  }

  Part whole() {
    return {.what = "whole steps, from plan to plan, waits left out",
            .names = {"step.step_us", "step.sampled_us"},
            .fields = {},
            .losses = {},
            .loss_names = {},
            .measured = [](const MeasuredStep& step) { return step.whole_ms - step.wait_ms; },
            .predicted =
                [](const CostModel& model, const MeasuredStep& step) {
                  return predicted_service(model, step) + predicted_layers(model, step) +
                         model.step_ms(step.work);
                }};
  }

  void fit(const Part& part) {
    if (part.measured(looked_at_.front()) <= 0) return;  // a dense model has no service time
    std::vector<double> start;
    for (const double* field : part.fields)
      start.push_back(std::log(std::max(*field, 1e-6)));
    for (const double* loss : part.losses)
      start.push_back(*loss);
    const auto apply = [&](std::span<const double> x) {
      for (std::size_t i = 0; i < part.fields.size(); ++i)
        *part.fields[i] = std::clamp(std::exp(x[i]), kLeastFitted, kMostFitted);
      for (std::size_t i = 0; i < part.losses.size(); ++i)
        *part.losses[i] = std::clamp(x[part.fields.size() + i], 0.0, 1.0);
      profile_.step.head = profile_.attention.projections;
    };
    const auto error = [&](std::span<const double> x) {
      apply(x);
      const CostModel costs = model();
      double sum = 0;
      for (const MeasuredStep& step : looked_at_)
        sum += loss_of(part.predicted(costs, step), part.measured(step));
      return sum;
    };
    apply(minimise(error, start));
  }

  // Measured to predicted, summed over all steps.
  [[nodiscard]] double ratio(const Part& part) const {
    const CostModel costs = model();
    double measured = 0;
    double predicted = 0;
    for (const MeasuredStep& step : all_) {
      measured += part.measured(step);
      predicted += part.predicted(costs, step);
    }
    return measured > 0 && predicted > 0 ? measured / predicted : 1;
  }

  static void slow_down(Roofline& roofline, double by) {
    roofline.stream_gb_per_s /= by;
    roofline.compute_tflop_per_s /= by;
  }
  void scale_experts() {
    const double by = ratio(experts());
    profile_.experts.layer_us *= by;
    slow_down(profile_.experts.products, by);
    // What one rank's weights are streamed at does not depend on what they are.
    profile_.attention.projections.stream_gb_per_s = profile_.experts.products.stream_gb_per_s;
  }
  void scale_attention() {
    AttentionCost& cost = profile_.attention;
    const double by = ratio(attention());
    cost.layer_us *= by;
    cost.decode_us *= by;
    cost.kv_gb_per_s /= by;
    cost.prefill_tflop_per_s /= by;
    slow_down(cost.projections, by);
    profile_.step.head = cost.projections;
  }

  // Least squares of what is left of whole_ms: step_us and sampled_us, neither below 0.
  void fit_step() {
    double n = 0;
    double x = 0;
    double xx = 0;
    double y = 0;
    double xy = 0;
    for (const MeasuredStep& step : all_) {
      const double left = step.whole_ms - step.attention_ms - step.service_ms - step.wait_ms;
      n += 1;
      x += step.work.sampled;
      xx += static_cast<double>(step.work.sampled) * step.work.sampled;
      y += left * 1e3;
      xy += left * 1e3 * step.work.sampled;
    }
    const double spread = n * xx - x * x;
    double slope = spread > 0 ? (n * xy - x * y) / spread : 0;
    slope = std::max(0.0, slope);
    double base = (y - slope * x) / n;
    if (base < 0) {
      base = 0;
      slope = xx > 0 ? std::max(0.0, xy / xx) : 0;
    }
    profile_.step.step_us = base;
    profile_.step.sampled_us = slope;
    profile_.step.row_us = 0;
  }

  void note(const Part& part) {
    const CostModel costs = model();
    FitNote note{.what = part.what,
                 .from = std::string(origin_),
                 .points = static_cast<int>(all_.size()),
                 .fields = part.names};
    note.fields.insert(note.fields.end(), part.loss_names.begin(), part.loss_names.end());
    for (const MeasuredStep& step : all_) {
      const double measured = part.measured(step);
      if (measured <= 0) continue;
      const double error = std::abs(part.predicted(costs, step) / measured - 1) * 100;
      note.mean_error_percent += error / static_cast<double>(all_.size());
      note.max_error_percent = std::max(note.max_error_percent, error);
    }
    profile_.fitted.push_back(std::move(note));
  }

  const ModelShape& model_;
  HardwareProfile profile_;
  std::string_view origin_;
  std::vector<MeasuredStep> all_;
  std::vector<MeasuredStep> looked_at_;
};

}  // namespace

double predicted_ms(const CostModel& model, const MeasuredStep& step) {
  return predicted_service(model, step) + predicted_layers(model, step) + model.step_ms(step.work);
}

std::vector<double> minimise(const std::function<double(std::span<const double>)>& function,
                             std::vector<double> start) {
  GIMBAL_CHECK(!start.empty());
  constexpr int kMostRestarts = 8;
  constexpr double kWorthwhile = 1e-4;
  double value = function(start);
  for (int i = 0; i < kMostRestarts; ++i) {
    Simplex simplex(function, start);
    simplex.descend();
    const bool gained = simplex.value() < value * (1 - kWorthwhile);
    if (simplex.value() < value) {
      value = simplex.value();
      start = simplex.best();
    }
    if (!gained) break;
  }
  return start;
}

Result<HardwareProfile> fit_steps(const ModelShape& model, std::span<const MeasuredStep> steps,
                                  const HardwareProfile& start, std::string_view origin) {
  if (steps.size() < kLeastSteps) {
    return invalid_argument(
        fmt::format("a fit needs at least {} steps, there are {}", kLeastSteps, steps.size()),
        "steps");
  }
  const auto some = [&](int RankWork::*rows) {
    return std::ranges::any_of(steps,
                               [rows](const MeasuredStep& step) { return step.work.*rows > 0; });
  };
  if (!some(&RankWork::prefill_rows) || !some(&RankWork::decodes)) {
    return invalid_argument("a fit needs steps with prefill and steps with decodes", "steps");
  }
  Fit fit(model, steps, start, origin);
  fit.run();
  return fit.take();
}

}  // namespace gimbal::cost
