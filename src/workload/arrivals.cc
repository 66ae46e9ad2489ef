#include "workload/arrivals.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "base/check.h"
#include "workload/random_variates.h"

namespace gimbal::workload {
namespace {

Duration of_seconds(double seconds) {
  return Duration{std::llround(seconds * 1e9)};
}

}  // namespace

Result<void> validate(const ArrivalOptions& options, std::size_t requests) {
  if (options.rate && !(*options.rate > 0.0 && *options.rate <= 1e9)) {
    return invalid_argument(
        fmt::format("a request rate is above 0 and at most 1e9 a second, not {}", *options.rate),
        "request_rate");
  }
  const auto count = static_cast<double>(requests);
  if (options.rate && count / *options.rate > kMaxArrivalSeconds) {
    return invalid_argument(
        fmt::format("at a request rate of {} the last of {} requests would arrive after more than "
                    "{:g} seconds",
                    *options.rate, requests, kMaxArrivalSeconds),
        "request_rate");
  }
  if (!(options.burstiness >= 1e-3 && options.burstiness <= 1e6)) {
    return invalid_argument(
        fmt::format("burstiness is from 0.001 to 1e6, not {}", options.burstiness), "burstiness");
  }
  return {};
}

void draw_arrivals(Workload& workload, const ArrivalOptions& options, Rng& rng) {
  GIMBAL_CHECK(validate(options, workload.requests.size()).ok());
  workload.has_arrivals = true;
  if (!options.rate) {
    for (RequestSpec& request : workload.requests)
      request.arrival = Duration{};
    return;
  }
  std::vector<double> times;
  double now = 0.0;
  for (std::size_t i = 0; i < workload.requests.size(); ++i) {
    now += gamma(rng, options.burstiness);
    times.push_back(now);
  }
  const double last = static_cast<double>(workload.requests.size()) / *options.rate;
  for (std::size_t i = 0; i < times.size(); ++i) {
    // Gaps of tiny shape can all vanish in a double; then everything comes at the end.
    workload.requests[i].arrival = of_seconds(now > 0.0 ? times[i] / now * last : last);
  }
}

void rescale_arrivals(Workload& workload, double rate) {
  GIMBAL_CHECK(validate({.rate = rate}, workload.requests.size()).ok());
  if (workload.requests.empty()) return;
  const Duration last = workload.requests.back().arrival;
  if (last <= Duration{}) return;
  const double stretch =
      static_cast<double>(workload.requests.size()) / rate / (to_ms(last) * 1e-3);
  for (RequestSpec& request : workload.requests) {
    request.arrival = of_seconds(to_ms(request.arrival) * 1e-3 * stretch);
  }
}

}  // namespace gimbal::workload
