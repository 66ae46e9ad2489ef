#include "apps/demo_model.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "base/log.h"
#include "base/thread_pool.h"
#include "synthetic/make_model.h"

namespace gimbal::apps {
namespace {

namespace fs = std::filesystem;

// A file lock of this process, held to the end of the object's life; the system lets go of it if
// the process dies. The file stays: removing it could leave two holders.
class FileLock {
 public:
  FileLock() = default;
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock() {
    if (file_ >= 0) ::close(file_);
  }

  // Waits for whoever holds it.
  [[nodiscard]] Result<void> take(const std::string& path) {
    file_ = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (file_ < 0) return io_error(path, errno);
    if (::flock(file_, LOCK_EX | LOCK_NB) == 0) return {};
    log_info("waiting for another process that holds {}", path);
    while (::flock(file_, LOCK_EX) != 0) {
      if (errno != EINTR) return io_error(path, errno);
    }
    return {};
  }

 private:
  int file_ = -1;
};

fs::path cache_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const fs::path base = cache != nullptr && *cache != '\0' ? fs::path(cache)
                        : home != nullptr                  ? fs::path(home) / ".cache"
                                                           : fs::temp_directory_path();
  return base / "gimbal";
}

}  // namespace

Result<std::string> ensure_demo_model() {
  const fs::path cache = cache_folder();
  const std::string dir = (cache / "demo-" GIMBAL_VERSION).string();
  const fs::path config = fs::path(dir) / "config.json";  // written last
  std::error_code failed;
  if (fs::exists(config, failed)) return dir;
  fs::create_directories(cache, failed);
  if (failed) return io_error(cache.string(), failed.value());
  FileLock lock;
  GIMBAL_RETURN_IF_ERROR(lock.take(dir + ".lock"));
  if (fs::exists(config, failed)) return dir;  // made while this waited
  log_info("making the demo model in {}", dir);
  GIMBAL_ASSIGN_OR_RETURN(const auto options, synthetic::preset("demo"));
  ThreadPool pool;
  const auto made = synthetic::make_model(options, dir, true, pool, [](auto, auto) {});
  if (!made.ok()) return made.error();
  return dir;
}

}  // namespace gimbal::apps
