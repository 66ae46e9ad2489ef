#pragma once

#include <array>
#include <cmath>
#include <cstddef>

namespace gimbal::policy {

// Weighted recursive least squares with exponential forgetting for N features, unconstrained:
// y ≈ Σ coefficient[i]·x[i].
//
// Kept as the decayed normal equations A = Σ λ^age·w·x·xᵀ, b = Σ λ^age·w·y·x of features divided by
// their typical sizes. A sample moves the coefficients θ by (A + ρI)⁻¹(b − A·θ), ρ a small part of
// the trace of A. Where the samples say something that is the least-squares solution; along
// directions that they do not excite (features that are collinear, or have not moved for long) θ
// stays as it is. So nothing winds up: A is bounded by the samples of the last 1/(1 − λ) steps.
//
// Value type; the same samples give the same coefficients. Costs O(N³), allocates nothing.
template <std::size_t N>
class RecursiveLeastSquares {
 public:
  using Vector = std::array<double, N>;

  // `typical`: the usual size of each feature, > 0. `forgetting`: λ in (0, 1].
  RecursiveLeastSquares(const Vector& typical, double forgetting)
      : typical_(typical), forgetting_(forgetting) {}

  // A sample of weight `weight` > 0. One that is not finite is ignored.
  void add(const Vector& features, double value, double weight) {
    Vector x{};
    double size = value * value * weight;
    for (std::size_t i = 0; i < N; ++i) {
      x[i] = features[i] / typical_[i];
      size += x[i] * x[i] * weight;
    }
    if (!std::isfinite(size)) return;
    for (std::size_t i = 0; i < N; ++i) {
      for (std::size_t j = 0; j < N; ++j)
        information_[i][j] = forgetting_ * information_[i][j] + weight * x[i] * x[j];
      moment_[i] = forgetting_ * moment_[i] + weight * value * x[i];
    }
    refine();
  }

  [[nodiscard]] double coefficient(std::size_t i) const { return scaled_[i] / typical_[i]; }
  [[nodiscard]] double predict(const Vector& features) const {
    double sum = 0;
    for (std::size_t i = 0; i < N; ++i)
      sum += coefficient(i) * features[i];
    return sum;
  }

 private:
  static constexpr double kRidge = 1e-7;  // ρ / trace of A

  void refine() {
    double trace = 0;
    for (std::size_t i = 0; i < N; ++i)
      trace += information_[i][i];
    if (!(trace > 0)) return;
    std::array<Vector, N> a = information_;
    Vector step = moment_;
    for (std::size_t i = 0; i < N; ++i) {
      a[i][i] += kRidge * trace;
      for (std::size_t j = 0; j < N; ++j)
        step[i] -= information_[i][j] * scaled_[j];
    }
    // Gaussian elimination: A + ρI is symmetric and positive definite, so no pivoting is needed.
    for (std::size_t k = 0; k < N; ++k) {
      if (!(a[k][k] > 0)) return;
      for (std::size_t i = k + 1; i < N; ++i) {
        const double factor = a[i][k] / a[k][k];
        for (std::size_t j = k; j < N; ++j)
          a[i][j] -= factor * a[k][j];
        step[i] -= factor * step[k];
      }
    }
    for (std::size_t k = N; k-- > 0;) {
      for (std::size_t j = k + 1; j < N; ++j)
        step[k] -= a[k][j] * step[j];
      step[k] /= a[k][k];
    }
    for (std::size_t i = 0; i < N; ++i)
      scaled_[i] += step[i];
  }

  Vector typical_;
  double forgetting_;
  std::array<Vector, N> information_{};  // A
  Vector moment_{};                      // b
  Vector scaled_{};                      // θ, of the scaled features
};

}  // namespace gimbal::policy
