#include "apps/inspect.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "apps/model_flags.h"
#include "apps/number_range.h"
#include "checkpoint/inspect.h"

namespace gimbal::apps {
namespace {

struct Arguments {
  std::string model_dir;
  std::uint64_t memory_bytes = 0;
  std::string dtype;
  int max_model_len = 0;
  bool json = false;
};

Result<void> inspect(const Arguments& arguments) {
  GIMBAL_ASSIGN_OR_RETURN(const checkpoint::ModelSummary summary,
                          checkpoint::inspect_model(arguments.model_dir));
  checkpoint::FitOptions options;
  if (!arguments.dtype.empty()) {
    GIMBAL_ASSIGN_OR_RETURN(options.dtype, tensor::parse_dtype(arguments.dtype));
  }
  if (arguments.max_model_len > 0) options.max_model_len = arguments.max_model_len;
  std::uint64_t memory = arguments.memory_bytes;
  if (memory == 0) {
    memory = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
             static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  }
  const checkpoint::MemoryFit fit = checkpoint::fit_in_memory(summary, memory, options);
  if (arguments.json) {
    fmt::print("{}\n", checkpoint::to_json(summary, &fit).dump(2));
  } else {
    fmt::print("{}", checkpoint::to_text(summary, &fit));
  }
  return {};
}

}  // namespace

void add_inspect(CLI::App& program, int& status) {
  auto* command = program.add_subcommand(
      "inspect", "show a checkpoint's architecture, its bytes by part, and what fits in memory");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("model_dir", arguments->model_dir, "a Hugging Face checkpoint folder")
      ->required();
  command
      ->add_option("--memory", arguments->memory_bytes,
                   "memory to fit into, in bytes or as 16GiB; default: this machine's")
      ->transform(CLI::AsSizeValue(false));
  command->add_option("--dtype", arguments->dtype, "execution type: bfloat16 (default) or float32")
      ->check(CLI::IsMember({"bfloat16", "float32"}));
  command
      ->add_option("--max-model-len", arguments->max_model_len,
                   "tokens of one sequence; default: the model's context")
      ->check(above_zero());
  command->add_flag("--json", arguments->json, "print one JSON object");
  command->callback([arguments, &status] {
    const auto result = inspect(*arguments);
    if (!result.ok()) status = report_failure("inspect", result.error());
  });
}

}  // namespace gimbal::apps
