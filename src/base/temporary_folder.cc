#include "base/temporary_folder.h"

#include <stdlib.h>

#include <fstream>

#include "base/check.h"

namespace gimbal {

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "gimbal-XXXXXX").string();
  GIMBAL_CHECK(mkdtemp(name.data()) != nullptr);
  path_ = name;
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
