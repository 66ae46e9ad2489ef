#pragma once

#include <fstream>
#include <string>

#include "base/log.h"

namespace gimbal::engine {

// Ends a record, if one was opened; where it could not be written to its end the log says so.
inline void close_record(std::ofstream& record, const std::string& path) {
  if (!record.is_open()) return;
  record.close();
  if (!record) log_error("the record {} could not be written to its end", path);
}

}  // namespace gimbal::engine
