#include "apps/server_process.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <thread>

namespace gimbal::apps {
namespace {

constexpr Duration kBetweenLooks = std::chrono::milliseconds(20);
constexpr Duration kToEnd = std::chrono::seconds(10);
constexpr std::size_t kLastWords = 600;  // bytes

// Between fork and exec: only what is allowed there.
[[noreturn]] void become_server(char* const* arguments, int output, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(127);  // it ended before that
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::execv("/proc/self/exe", arguments);
  ::_exit(127);
}

}  // namespace

std::string serving_url(const std::string& output) {
  constexpr std::string_view kBefore = "serving ";
  constexpr std::string_view kUrl = " on http://";
  for (std::size_t at = 0; at < output.size();) {
    const std::size_t end = output.find('\n', at);
    if (end == std::string::npos) break;
    const std::string_view line(output.data() + at, end - at);
    const std::size_t url = line.find(kUrl);
    if (url != std::string_view::npos && line.find(kBefore) < url)
      return std::string(line.substr(url + 4));
    at = end + 1;
  }
  return {};
}

Result<std::unique_ptr<ServerProcess>> ServerProcess::start(const std::vector<std::string>& flags,
                                                            Duration timeout) {
  std::unique_ptr<ServerProcess> server(new ServerProcess());
  GIMBAL_RETURN_IF_ERROR(server->spawn(flags));
  GIMBAL_RETURN_IF_ERROR(server->wait_until_serving(timeout));
  return server;
}

Result<void> ServerProcess::spawn(const std::vector<std::string>& flags) {
  output_file_ = ::memfd_create("gimbal-serve", MFD_CLOEXEC);
  if (output_file_ < 0) return io_error("memfd_create", errno);
  std::vector<std::string> words = {"gimbal", "serve", "--host", "127.0.0.1", "--port", "0"};
  words.insert(words.end(), flags.begin(), flags.end());
  std::vector<char*> arguments;
  for (std::string& word : words)
    arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) return io_error("fork", errno);
  if (pid_ == 0) become_server(arguments.data(), output_file_, parent);
  return {};
}

Result<void> ServerProcess::wait_until_serving(Duration timeout) {
  const SteadyClock clock;
  const TimePoint deadline = clock.now() + timeout;
  while (true) {
    const bool running = alive();  // before its output is read, which is whole if it has ended
    const std::string url = serving_url(output());
    if (running && !url.empty()) {
      GIMBAL_ASSIGN_OR_RETURN(url_, loadgen::parse_target_url(url));
      return {};
    }
    if (!running) {
      return Error{ErrorCode::kUnavailable, "gimbal serve ended before it served: " + last_words()};
    }
    if (clock.now() >= deadline) {
      return Error{ErrorCode::kUnavailable,
                   fmt::format("gimbal serve does not serve after {:.0f} s: {}",
                               to_ms(timeout) / 1000, last_words())};
    }
    std::this_thread::sleep_for(kBetweenLooks);
  }
}

ServerProcess::~ServerProcess() {
  if (alive()) {
    ::kill(pid_, SIGTERM);
    const SteadyClock clock;
    const TimePoint deadline = clock.now() + kToEnd;
    while (alive() && clock.now() < deadline)
      std::this_thread::sleep_for(kBetweenLooks);
    if (alive()) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  if (output_file_ >= 0) ::close(output_file_);
}

bool ServerProcess::alive() {
  if (pid_ < 0) return false;
  if (::waitpid(pid_, nullptr, WNOHANG) == 0) return true;
  pid_ = -1;
  return false;
}

std::string ServerProcess::output() const {
  std::string text;
  std::array<char, 4096> part{};
  while (true) {
    const ssize_t count =
        ::pread(output_file_, part.data(), part.size(), static_cast<off_t>(text.size()));
    if (count <= 0) return text;
    text.append(part.data(), static_cast<std::size_t>(count));
  }
}

std::string ServerProcess::last_words() const {
  std::string text = output();
  if (text.size() > kLastWords) text.erase(0, text.size() - kLastWords);
  while (!text.empty() && text.back() == '\n')
    text.pop_back();
  return text;
}

}  // namespace gimbal::apps
