#include "apps/reproduction_front.h"

#include <algorithm>

#include "apps/reproduction_statistics.h"
#include "base/check.h"

namespace gimbal::apps {
namespace {

constexpr double kEqual = 1.01;

struct Point {
  const std::string* name = nullptr;
  const std::vector<RunNumbers>* runs = nullptr;
};

std::vector<Point> points(const Reproduction& reproduction, const ReproducedCell& cell,
                          bool baseline) {
  std::vector<Point> points;
  for (const ReproducedSystem& system : reproduction.systems) {
    if (system.baseline == baseline) points.push_back({&system.name, &cell.runs.at(system.name)});
  }
  GIMBAL_CHECK(!points.empty());
  return points;
}

// Ours is not worse beyond the interval. To none, as to the TPOT of answers of one token, there is
// no ratio: the means decide.
bool holds(const Point& base, const Point& ours, RunField field) {
  if (!has_ratio(*base.runs, field))
    return mean_of(*ours.runs, field) <= mean_of(*base.runs, field);
  return ratio_of(*base.runs, *ours.runs, field).low <= 1.0;
}

bool dominated(const Point& base, const std::vector<Point>& ours) {
  for (const Point& point : ours) {
    if (holds(base, point, &RunNumbers::mean_ttft_ms) &&
        holds(base, point, &RunNumbers::mean_tpot_ms))
      return true;
  }
  return false;
}

FrontPair pair_of(const Point& base, const Point& ours, RunField field) {
  return {.baseline = *base.name,
          .system = *ours.name,
          .ratio = ratio_of(*base.runs, *ours.runs, field)};
}

// Another point has both lower, by the means.
bool beaten(const Point& point, const std::vector<Point>& points) {
  return std::ranges::any_of(points, [&](const Point& other) {
    return mean_of(*other.runs, &RunNumbers::mean_ttft_ms) <
               mean_of(*point.runs, &RunNumbers::mean_ttft_ms) &&
           mean_of(*other.runs, &RunNumbers::mean_tpot_ms) <
               mean_of(*point.runs, &RunNumbers::mean_tpot_ms);
  });
}

std::optional<FrontPair> ttft_at_equal_tpot(const std::vector<Point>& baselines,
                                            const std::vector<Point>& ours) {
  std::optional<FrontPair> most;
  for (const Point& base : baselines) {
    if (beaten(base, baselines)) continue;
    const double tpot = mean_of(*base.runs, &RunNumbers::mean_tpot_ms);
    for (const Point& point : ours) {
      if (mean_of(*point.runs, &RunNumbers::mean_tpot_ms) > kEqual * tpot) continue;
      const FrontPair pair = pair_of(base, point, &RunNumbers::mean_ttft_ms);
      if (!most || pair.ratio.estimate < most->ratio.estimate) most = pair;
    }
  }
  return most;
}

const Point& lowest_e2el(const std::vector<Point>& points) {
  const Point* lowest = &points.front();
  for (const Point& point : points) {
    if (mean_of(*point.runs, &RunNumbers::mean_e2el_ms) <
        mean_of(*lowest->runs, &RunNumbers::mean_e2el_ms))
      lowest = &point;
  }
  return *lowest;
}

}  // namespace

std::vector<FrontVerdict> judge_front(const Reproduction& reproduction,
                                      const ReproductionResult& result) {
  std::vector<FrontVerdict> verdicts;
  for (const ReproducedCell& cell : result.cells) {
    const std::vector<Point> baselines = points(reproduction, cell, true);
    const std::vector<Point> ours = points(reproduction, cell, false);
    FrontVerdict verdict{
        .workload = cell.workload,
        .load = cell.load,
        .undominated = {},
        .ttft_at_equal_tpot = ttft_at_equal_tpot(baselines, ours),
        .best_e2el = pair_of(lowest_e2el(baselines), lowest_e2el(ours), &RunNumbers::mean_e2el_ms)};
    for (const Point& base : baselines) {
      if (!dominated(base, ours)) verdict.undominated.push_back(*base.name);
    }
    verdicts.push_back(std::move(verdict));
  }
  return verdicts;
}

}  // namespace gimbal::apps
