#include "apps/output_file.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

namespace gimbal::apps {

OutputFile::OutputFile(std::string path, std::string written)
    : path_(std::move(path)),
      written_(std::move(written)),
      file_(written_, std::ios::trunc | std::ios::binary) {}

Result<std::unique_ptr<OutputFile>> OutputFile::open(const std::string& path) {
  std::error_code none;
  const auto status = std::filesystem::status(path, none);
  if (std::filesystem::is_directory(status)) return io_error(path, EISDIR);
  const bool special = std::filesystem::exists(status) && !std::filesystem::is_regular_file(status);
  errno = 0;
  std::unique_ptr<OutputFile> file(new OutputFile(path, special ? path : path + ".part"));
  if (!file->file_) return io_error(path, errno);
  return file;
}

OutputFile::~OutputFile() {
  if (committed_ || written_ == path_) return;
  file_.close();
  std::remove(written_.c_str());
}

Result<void> OutputFile::commit() {
  file_.close();
  if (file_.fail()) return io_error(path_, errno);
  committed_ = true;
  if (written_ == path_) return {};
  if (std::rename(written_.c_str(), path_.c_str()) != 0) return io_error(path_, errno);
  return {};
}

}  // namespace gimbal::apps
