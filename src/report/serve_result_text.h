#pragma once

#include <string>

#include "report/serve_result.h"
#include "report/serve_result_json.h"

namespace gimbal::report {

// The result for a terminal: vLLM's block of lines, then classes, the identity check, how late
// requests were sent, and whether the run is valid.
[[nodiscard]] std::string to_text(const ServeResult& result, const ServeJsonOptions& options = {});

}  // namespace gimbal::report
