#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/output_file.h"
#include "base/result.h"

namespace gimbal::apps {

// Where the result of a run is saved, found before the run starts, so that a place that cannot be
// written is no surprise at its end. One thread.
class ResultFile {
 public:
  struct Options {
    std::string folder;     // made where it is missing; empty: the current one
    std::string filename;   // empty: `automatic`, or where that is taken the next free name
    std::string automatic;  // "base-seed1.json"; "base-seed1-2.json" is the next
    bool append = false;    // behind what the file holds, on a line of its own
  };

  // Takes the place: no other run gets the same automatic name meanwhile. A file that is named and
  // not appended to is replaced as a whole, once the new one is written. kIo names the path.
  [[nodiscard]] static Result<std::unique_ptr<ResultFile>> open(const Options& options);
  ~ResultFile();  // without write() nothing is left
  ResultFile(const ResultFile&) = delete;
  ResultFile& operator=(const ResultFile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  // Whether write() will take the place of a file that was there at open().
  [[nodiscard]] bool replaces() const { return replaces_; }

  // Writes the document and a line end. When it fails, what was there before is still there. Runs
  // that append to one file lock it while they write.
  [[nodiscard]] Result<void> write(const nlohmann::json& document);

 private:
  ResultFile(std::string path, bool append) : path_(std::move(path)), append_(append) {}
  // The next free name, reserved by its ".part" file.
  [[nodiscard]] static Result<std::string> reserve(const std::string& automatic);
  [[nodiscard]] Result<void> append(const std::string& text);

  std::string path_;
  bool append_;
  bool replaces_ = false;
  int fd_ = -1;                        // of the file that is appended to
  bool made_ = false;                  // by open(), empty, to be appended to
  std::unique_ptr<OutputFile> whole_;  // null where it is appended to
};

}  // namespace gimbal::apps
