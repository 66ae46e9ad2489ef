#include "checkpoint/file_handle.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace gimbal::checkpoint {
namespace {

// Linux moves at most 0x7ffff000 bytes a call.
constexpr std::size_t kMaxCallBytes = std::size_t{1} << 30;

}  // namespace

FileHandle::FileHandle(std::string path, int descriptor, std::uint64_t size)
    : path_(std::move(path)), descriptor_(descriptor), size_(size) {}

Result<FileHandle> FileHandle::open_to_read(const std::string& path) {
  // O_NONBLOCK: a FIFO in a model's folder must not hang the program before it is refused.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return io_error(path, errno);
  FileHandle file(path, descriptor, 0);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) return io_error(path, errno);
  if (!S_ISREG(status.st_mode)) return invalid_argument("not a regular file: " + path);
  file.size_ = static_cast<std::uint64_t>(status.st_size);
  return file;
}

Result<FileHandle> FileHandle::create(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return io_error(path, errno);
  return FileHandle(path, descriptor, 0);
}

FileHandle::~FileHandle() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FileHandle::FileHandle(FileHandle&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}

FileHandle& FileHandle::operator=(FileHandle&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

Result<void> FileHandle::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  GIMBAL_CHECK(descriptor_ >= 0);
  std::size_t done = 0;
  while (done < out.size()) {
    const std::size_t wanted = std::min(out.size() - done, kMaxCallBytes);
    const ssize_t got =
        ::pread(descriptor_, out.data() + done, wanted, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error(path_, errno);
    if (got == 0) {
      return invalid_argument(fmt::format("{}: the file ends at byte {}, {} bytes from {} are read",
                                          path_, offset + done, out.size(), offset));
    }
    done += static_cast<std::size_t>(got);
  }
  return {};
}

Result<void> FileHandle::append(std::span<const std::byte> bytes) {
  GIMBAL_CHECK(descriptor_ >= 0);
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor_, bytes.data(), std::min(bytes.size(), kMaxCallBytes));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return io_error(path_, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    size_ += static_cast<std::uint64_t>(put);
  }
  return {};
}

Result<void> FileHandle::sync() {
  GIMBAL_CHECK(descriptor_ >= 0);
  if (::fsync(descriptor_) != 0) return io_error(path_, errno);
  return {};
}

}  // namespace gimbal::checkpoint
