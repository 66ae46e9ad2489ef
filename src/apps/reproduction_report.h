#pragma once

#include <string>

#include "apps/reproduction.h"
#include "base/json.h"

namespace gimbal::apps {

// Markdown: a table of all cells with bootstrap intervals over seeds; where claims are of prefix
// hits, a table of those; for a front how the two curves lie in each cell; and a line of verdict
// for each claim. A claim is held against the better of the baselines, cell by cell and metric by
// metric.
[[nodiscard]] std::string reproduction_text(const Reproduction& reproduction,
                                            const ReproductionResult& result);

// The same in numbers: {"name", "title", "place", "flags", "num_prompts", "seeds", "claims",
// "fronts", "cells"}; a cell is of one system on one workload at one load, with its runs. What
// `gimbal report` draws. The same result is the same document: it says no date.
[[nodiscard]] Json reproduction_to_json(const Reproduction& reproduction,
                                        const ReproductionResult& result);

// Whether a document is one of those.
[[nodiscard]] bool is_reproduction(const Json& document);

}  // namespace gimbal::apps
