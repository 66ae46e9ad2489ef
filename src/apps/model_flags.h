#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/thread_pool.h"
#include "interpreter/interpreter.h"
#include "kernels/isa.h"
#include "model/forward.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace CLI {
class App;
}

namespace gimbal::apps {

// What every command that runs a model asks on its command line.
struct ModelFlags {
  std::string model_dir;
  std::string dtype = "auto";  // auto: what the checkpoint has, float32 for float16
  std::string isa = "auto";    // auto: the fastest this machine has
  int threads = 0;             // 0: one a CPU
  bool no_pin = false;
  int nice = 0;  // of compute threads
  bool small_pages = false;
  std::int64_t max_model_len = 0;  // 0: the model's own
  std::string python_env;          // empty: beside the program
  std::string chat_template;       // empty: the model's own

  // `needs_text`: the flags about tokenizer and template too.
  void add_to(CLI::App& command, bool needs_text);
};

struct LoadedModel {
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<model::Model> model;
  kernels::Isa isa = kernels::Isa::kReference;
};

// Loads the weights, with a progress bar. Errors name the flag or the file at fault.
[[nodiscard]] Result<LoadedModel> load_model(const ModelFlags& flags);

// Members are in the order in which they must end.
struct LoadedText {
  std::unique_ptr<interpreter::Interpreter> interpreter;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<text::ChatTemplate> chat_template;  // null: the model has none
};

// Starts the embedded Python and loads tokenizer and chat template.
[[nodiscard]] Result<LoadedText> load_text(const ModelFlags& flags);

// Prints "gimbal COMMAND: message" and returns the exit code for a failure.
int report_failure(const char* command, const Error& error);

}  // namespace gimbal::apps
