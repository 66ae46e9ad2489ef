#include "base/temporary_folder.h"

#include <stdlib.h>

#include <cerrno>
#include <fstream>

#include "base/check.h"

namespace gimbal {

namespace {

Result<std::filesystem::path> make_folder() {
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::temp_directory_path(error);
  if (error) return io_error("the folder for temporary files (TMPDIR)", error.value());
  std::string name = (parent / "gimbal-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) return io_error(name, errno);
  return std::filesystem::path(name);
}

}  // namespace

Result<std::unique_ptr<TemporaryFolder>> TemporaryFolder::make() {
  GIMBAL_ASSIGN_OR_RETURN(std::filesystem::path path, make_folder());
  return std::unique_ptr<TemporaryFolder>(new TemporaryFolder(std::move(path)));
}

TemporaryFolder::TemporaryFolder() {
  auto path = make_folder();
  GIMBAL_CHECK(path.ok());
  path_ = std::move(path).value();
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::write(std::string_view name, std::string_view content) const {
  std::string file = path(name);
  std::ofstream stream(file, std::ios::binary);
  stream << content;
  GIMBAL_CHECK(stream.flush().good());
  return file;
}

}  // namespace gimbal
