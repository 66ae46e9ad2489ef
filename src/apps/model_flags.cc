#include "apps/model_flags.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>

#include "apps/number_range.h"
#include "base/log.h"
#include "base/progress.h"
#include "kernels/kv_cache.h"
#include "model/kv_storage.h"
#include "model_config/model_config.h"

namespace gimbal::apps {
namespace {

namespace fs = std::filesystem;

Result<kernels::Isa> choose_isa(const std::string& name) {
  if (name == "auto") return kernels::best_isa();
  GIMBAL_ASSIGN_OR_RETURN(const kernels::Isa isa, kernels::parse_isa(name));
  if (!kernels::isa_supported(isa)) {
    return unsupported("--isa: this machine does not have " + name, "isa");
  }
  return isa;
}

Result<tensor::DType> choose_dtype(const std::string& name, const std::string& stored) {
  if (name != "auto") {
    GIMBAL_ASSIGN_OR_RETURN(const tensor::DType dtype, tensor::parse_dtype(name));
    if (dtype != tensor::DType::kF16) return dtype;
    return unsupported("--dtype must be auto, bfloat16 or float32, is float16", "dtype");
  }
  return stored == "bfloat16" || stored.empty() ? tensor::DType::kBF16 : tensor::DType::kF32;
}

// The virtual environment that the set-up made: beside the program, or one folder up.
std::string default_python_env() {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const fs::path& place : {program / "python-env", program.parent_path() / "python-env"}) {
    if (fs::exists(place / "pyvenv.cfg", ignored)) return place.string();
  }
  return (program.parent_path() / "python-env").string();
}

Result<void> check_folder(const std::string& model_dir) {
  std::error_code ignored;
  if (fs::is_directory(model_dir, ignored)) return {};
  return Error{ErrorCode::kNotFound, model_dir + " is not a folder", "model_dir"};
}

// The memory for the keys and values of one request, and for what is precomputed for its positions,
// is bound by the length. Checked before the weights are read.
Result<void> check_length(const model_config::ModelConfig& config, tensor::DType dtype,
                          std::int64_t positions) {
  const auto physical = static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
  const std::int64_t pages = (positions + kernels::kPageTokens - 1) / kernels::kPageTokens;
  const double bytes =
      static_cast<double>(pages) * static_cast<double>(model::KvStorage::page_bytes(config, dtype));
  if (bytes <= static_cast<double>(physical)) return {};
  return invalid_argument(
      fmt::format("{} positions take {:.0f} MB of keys and values for one request, more than the "
                  "machine's {:.0f} MB: give a shorter --max-model-len",
                  positions, bytes * 1e-6, static_cast<double>(physical) * 1e-6),
      "max-model-len");
}

}  // namespace

void ModelFlags::add_to(CLI::App& command, bool needs_text) {
  command.add_option("--dtype", dtype, "execution type: auto, bfloat16 or float32")
      ->capture_default_str();
  command.add_option("--isa", isa, "kernels: auto, avx2, avx512, avx512_bf16, amx_bf16, reference")
      ->capture_default_str();
  command.add_option("--threads", threads, "compute threads; 0: one a CPU")
      ->check(number_range(0, 4096))
      ->capture_default_str();
  command.add_flag("--no-pin", no_pin, "do not bind compute threads to CPUs");
  command
      .add_option(
          "--compute-nice", nice,
          "niceness of compute threads above the process's own: lets other programs go first")
      ->check(number_range(0, 19))
      ->capture_default_str();
  command.add_flag("--small-pages", small_pages, "keep weights in 4 KiB pages");
  command
      .add_option("--max-model-len", max_model_len,
                  "longest prompt and output of a request; 0: the model's context")
      ->check(at_least_zero())
      ->capture_default_str();
  if (!needs_text) return;
  command.add_option("--python-env", python_env,
                     "virtual environment with tokenizers and jinja2; default: beside the program");
  command.add_option("--chat-template", chat_template,
                     "Jinja file to use instead of the model's chat template");
}

Result<LoadedModel> load_model(const ModelFlags& flags) {
  LoadedModel loaded;
  GIMBAL_RETURN_IF_ERROR(check_folder(flags.model_dir));
  GIMBAL_ASSIGN_OR_RETURN(loaded.isa, choose_isa(flags.isa));
  GIMBAL_ASSIGN_OR_RETURN(const auto config, model_config::load_model_config(flags.model_dir));
  if (const std::string note = model_config::unknown_fields_note(config); !note.empty()) {
    log_warning("{}/config.json: {}", flags.model_dir, note);
  }
  GIMBAL_ASSIGN_OR_RETURN(const tensor::DType dtype, choose_dtype(flags.dtype, config.dtype));
  if (flags.max_model_len > config.context_length) {
    return invalid_argument(fmt::format("--max-model-len must be at most the model's {}, is {}",
                                        config.context_length, flags.max_model_len),
                            "max-model-len");
  }
  GIMBAL_RETURN_IF_ERROR(check_length(
      config, dtype, flags.max_model_len > 0 ? flags.max_model_len : config.context_length));
  loaded.pool = std::make_unique<ThreadPool>(
      ThreadPoolOptions{.workers = flags.threads, .pin = !flags.no_pin, .nice = flags.nice});
  std::unique_ptr<Progress> bar;
  const auto progress = [&bar](std::uint64_t done, std::uint64_t total) {
    if (!bar) bar = std::make_unique<Progress>("loading", "bytes", total);
    bar->update(done);
  };
  GIMBAL_ASSIGN_OR_RETURN(loaded.model,
                          model::Model::load(flags.model_dir,
                                             {.dtype = dtype,
                                              .pages = flags.small_pages ? tensor::PageKind::kSmall
                                                                         : tensor::PageKind::kHuge,
                                              .max_positions = flags.max_model_len,
                                              .progress = progress},
                                             *loaded.pool));
  return loaded;
}

Result<LoadedText> load_text(const ModelFlags& flags) {
  LoadedText loaded;
  GIMBAL_RETURN_IF_ERROR(check_folder(flags.model_dir));
  const std::string environment =
      flags.python_env.empty() ? default_python_env() : flags.python_env;
  GIMBAL_ASSIGN_OR_RETURN(loaded.interpreter,
                          interpreter::Interpreter::start({.environment = environment}));
  GIMBAL_ASSIGN_OR_RETURN(loaded.tokenizer,
                          text::Tokenizer::load(*loaded.interpreter, flags.model_dir));
  auto chat = text::ChatTemplate::load(*loaded.interpreter, flags.model_dir, flags.chat_template);
  if (chat.ok()) {
    loaded.chat_template = std::move(chat).value();
  } else if (chat.error().code != ErrorCode::kNotFound || !flags.chat_template.empty()) {
    return chat.error();
  }
  return loaded;
}

int report_failure(const char* command, const Error& error) {
  fmt::print(stderr, "gimbal {}: {}\n", command, error.message);
  return 1;
}

}  // namespace gimbal::apps
