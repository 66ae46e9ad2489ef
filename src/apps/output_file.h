#pragma once

#include <fstream>
#include <memory>
#include <string>

#include "base/result.h"

namespace gimbal::apps {

// A file that is there whole or not at all: written beside its place under another name, and put
// there by commit(). What is not a regular file ("/dev/stdout") is written as it comes. One thread.
class OutputFile {
 public:
  // kIo names the path.
  [[nodiscard]] static Result<std::unique_ptr<OutputFile>> open(const std::string& path);
  ~OutputFile();  // without commit() nothing is left
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  [[nodiscard]] std::ostream& stream() { return file_; }
  [[nodiscard]] Result<void> commit();

 private:
  OutputFile(std::string path, std::string written);

  std::string path_;
  std::string written_;  // the path itself, or the name beside it
  std::ofstream file_;
  bool committed_ = false;
};

}  // namespace gimbal::apps
