#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "report/bootstrap.h"
#include "report/serve_result_json.h"
#include "report/table.h"

namespace gimbal::report {

// One system's results: a single run, or one run a seed.
struct ComparedSide {
  std::string name;
  std::vector<SavedResult> results;
};

struct ComparisonOptions {
  // Names as SavedResult::number takes them; empty: throughputs, goodput, and mean, median and p99
  // of each latency, of all requests and of each class that both sides have.
  std::vector<std::string> fields = {};
  BootstrapOptions bootstrap = {};
};

// What the intervals of a comparison are about.
enum class ComparisonKind : std::uint8_t {
  kPairedRuns,    // several runs, the same seeds on both sides: change = mean of per-seed ratios
  kUnpairedRuns,  // several runs: change = ratio of means, each side resampled on its own
  kRequests,      // one run each, with details: requests are resampled, as if independent
  kNumbers,       // one run each: no intervals
};
[[nodiscard]] ComparisonKind comparison_kind(const ComparedSide& base, const ComparedSide& changed);
// For under the table: what its columns mean.
[[nodiscard]] std::string describe(ComparisonKind kind);

// Error: the options name a field that no result has a number for.
[[nodiscard]] Result<void> check_fields(const ComparedSide& base,
                                        std::span<const ComparedSide> changed,
                                        const ComparisonOptions& options);

// What describe() does not say of single rows, a sentence each: fields that have no row because
// some result lacks them, and changes of paired runs that are ratios of means because a base run
// has 0, where no ratio of that pair is. Requires: as compare().
[[nodiscard]] std::vector<std::string> notes(const ComparedSide& base, const ComparedSide& changed,
                                             const ComparisonOptions& options = {});

// A row for each field that both sides have: its name, both values, and changed against base.
// Values of several runs are means over runs. Throughputs of kRequests have no interval: requests
// of one run say nothing of their spread. Requires: both sides have results.
[[nodiscard]] Table compare(const ComparedSide& base, const ComparedSide& changed,
                            const ComparisonOptions& options = {});

// The same for several sides, each against base: two columns a side, NAME and "NAME change". Fields
// that a side lacks are absent there. Requires: names are all different.
[[nodiscard]] Table compare_all(const ComparedSide& base, std::span<const ComparedSide> changed,
                                const ComparisonOptions& options = {});

}  // namespace gimbal::report
