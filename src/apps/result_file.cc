#include "apps/result_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string_view>
#include <utility>

namespace gimbal::apps {
namespace {

namespace fs = std::filesystem;

constexpr int kMostNames = 100'000;

bool is_there(const std::string& path) {
  std::error_code none;
  return fs::exists(fs::symlink_status(path, none));
}

// Whether a line is begun that the next document must not continue.
bool ends_within_a_line(int fd, off_t size) {
  char last = '\n';
  return size > 0 && ::pread(fd, &last, 1, size - 1) == 1 && last != '\n';
}

// False: errno says why.
bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

// Nobody else appends to the file while this lives.
class FileLock {
 public:
  explicit FileLock(int fd) : fd_(fd) { (void)::flock(fd_, LOCK_EX); }
  ~FileLock() { (void)::flock(fd_, LOCK_UN); }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_;
};

}  // namespace

Result<std::unique_ptr<ResultFile>> ResultFile::open(const Options& options) {
  const bool named = !options.filename.empty();
  fs::path path = fs::path(options.folder) / (named ? options.filename : options.automatic);
  std::error_code error;
  if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
  if (error) return io_error(path.parent_path().string(), error.value());
  if (!named && !options.append) {
    GIMBAL_ASSIGN_OR_RETURN(path, reserve(path.string()));
  }
  std::unique_ptr<ResultFile> file(new ResultFile(path.string(), options.append));
  const bool old = is_there(file->path_);
  if (old && ::access(file->path_.c_str(), W_OK) != 0) return io_error(file->path_, errno);
  if (options.append) {
    file->fd_ = ::open(file->path_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (file->fd_ < 0) return io_error(file->path_, errno);
    file->made_ = !old;
    return file;
  }
  file->replaces_ = old && fs::is_regular_file(path, error);
  GIMBAL_ASSIGN_OR_RETURN(file->whole_, OutputFile::open(file->path_));
  return file;
}

// Whoever makes "NAME.part" has NAME, if it is free then: nobody else can put a file there.
Result<std::string> ResultFile::reserve(const std::string& automatic) {
  const fs::path path(automatic);
  for (int number = 1; number <= kMostNames; ++number) {
    std::string name = path.stem().string();
    if (number > 1) name += fmt::format("-{}", number);
    std::string candidate = (path.parent_path() / (name + path.extension().string())).string();
    if (is_there(candidate)) continue;
    const std::string part = candidate + ".part";
    const int made = ::open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (made < 0 && errno == EEXIST) continue;
    if (made < 0) return io_error(candidate, errno);
    ::close(made);
    if (!is_there(candidate)) return candidate;
    ::unlink(part.c_str());
  }
  return io_error(automatic, EEXIST);
}

ResultFile::~ResultFile() {
  if (fd_ < 0) return;
  {
    const FileLock lock(fd_);
    struct stat status {};
    // Another run may have appended to it meanwhile.
    if (made_ && ::fstat(fd_, &status) == 0 && status.st_size == 0) ::unlink(path_.c_str());
  }
  ::close(fd_);
}

Result<void> ResultFile::write(const nlohmann::json& document) {
  const std::string text =
      document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (append_) return append(text);
  whole_->stream() << text;
  return whole_->commit();
}

Result<void> ResultFile::append(const std::string& text) {
  const FileLock lock(fd_);
  struct stat before {};
  if (::fstat(fd_, &before) != 0) return io_error(path_, errno);
  const bool within = ends_within_a_line(fd_, before.st_size);
  if (write_all(fd_, (within ? "\n" : "") + text)) {
    made_ = false;
    return {};
  }
  const Error failed = io_error(path_, errno);
  (void)::ftruncate(fd_, before.st_size);
  return failed;
}

}  // namespace gimbal::apps
