#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace gimbal {
namespace {

constexpr int kBarWidth = 28;
constexpr Duration kRedraw = std::chrono::milliseconds(100);

std::string amount(std::uint64_t count, const std::string& unit) {
  if (unit == "bytes") return fmt::format("{:.1f} MB", static_cast<double>(count) * 1e-6);
  return fmt::format("{} {}", count, unit);
}

}  // namespace

Progress::Progress(std::string title, std::string unit, std::uint64_t total)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      total_(total),
      visible_(isatty(STDERR_FILENO) != 0),
      started_(clock_.now()) {}

Progress::~Progress() {
  finish();
}

void Progress::update(std::uint64_t done) {
  done_ = done;
  if (visible_ && clock_.now() - drawn_ >= kRedraw) draw();
}

void Progress::finish() {
  if (!visible_) return;
  draw();
  std::fputc('\n', stderr);
  visible_ = false;
}

void Progress::draw() {
  drawn_ = clock_.now();
  const double share =
      total_ == 0 ? 1.0 : std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const int filled = static_cast<int>(share * kBarWidth);
  const double seconds = to_ms(drawn_ - started_) / 1000.0;
  fmt::print(stderr, "\r{} [{:=<{}}{:<{}}] {:3.0f} %  {}  {:.1f} s\x1b[K", title_, "", filled, "",
             kBarWidth - filled, share * 100.0, amount(done_, unit_), seconds);
  std::fflush(stderr);
}

}  // namespace gimbal
