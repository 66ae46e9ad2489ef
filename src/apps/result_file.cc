#include "apps/result_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
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
bool ends_within_a_line(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file || file.tellg() <= 0) return false;
  file.seekg(-1, std::ios::end);
  return file.get() != '\n';
}

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
    errno = 0;
    const bool opened = std::ofstream(file->path_, std::ios::app | std::ios::binary).is_open();
    if (!opened) return io_error(file->path_, errno);
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
  if (made_) ::unlink(path_.c_str());
}

Result<void> ResultFile::write(const nlohmann::json& document) {
  const std::string text =
      document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (append_) return append(text);
  whole_->stream() << text;
  return whole_->commit();
}

Result<void> ResultFile::append(const std::string& text) {
  std::error_code no_size;
  const auto before = fs::file_size(path_, no_size);
  const bool within = ends_within_a_line(path_);
  errno = 0;
  std::ofstream file(path_, std::ios::app | std::ios::binary);
  file << (within ? "\n" : "") << text;
  file.close();
  if (file) {
    made_ = false;
    return {};
  }
  const Error failed = io_error(path_, errno);
  if (!no_size) fs::resize_file(path_, before, no_size);
  return failed;
}

}  // namespace gimbal::apps
