#include "apps/cpu_watch.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

namespace gimbal::apps {
namespace {

constexpr double kInexactSeconds = 0.03;
constexpr double kDisturbingShare = 0.05;

double busy_seconds() {
  std::ifstream file("/proc/stat");
  std::string line;
  std::getline(file, line);
  return busy_ticks(line).value_or(0.0) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double own_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

std::optional<double> busy_ticks(std::string_view proc_stat) {
  std::istringstream line{std::string(proc_stat.substr(0, proc_stat.find('\n')))};
  std::string name;
  // user nice system idle iowait irq softirq steal; guests are counted in user already.
  double ticks[8] = {};
  line >> name;
  for (double& each : ticks)
    line >> each;
  if (!line || name != "cpu") return std::nullopt;
  return ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6] + ticks[7];
}

CpuWatch::CpuWatch() : started_(SteadyClock().now()), busy_(busy_seconds()), own_(own_seconds()) {}

double CpuWatch::foreign_seconds() const {
  return std::max(0.0, (busy_seconds() - busy_) - (own_seconds() - own_));
}

bool CpuWatch::disturbed() const {
  const double wall = to_ms(SteadyClock().now() - started_) * 1e-3;
  return foreign_seconds() > kInexactSeconds + kDisturbingShare * wall;
}

}  // namespace gimbal::apps
