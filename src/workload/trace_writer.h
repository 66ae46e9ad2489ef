#pragma once

#include <ostream>
#include <string>

#include "base/result.h"
#include "workload/request_spec.h"

namespace gimbal::workload {

// Writes a workload as JSON lines that parse_trace reads back exactly, one request each:
// {"timestamp": ms, "input_length", "output_length", "prompt": [[identity, tokens, topic], …]} and,
// where there is one, "user", "class", "source", "text". Topic −1 is kAnyTopic.
void write_jsonl(const Workload& workload, std::ostream& out);

// The same to a file, which is replaced. Errors name the path.
[[nodiscard]] Result<void> write_jsonl_file(const Workload& workload, const std::string& path);

}  // namespace gimbal::workload
