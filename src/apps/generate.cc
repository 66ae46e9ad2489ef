#include "apps/generate.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <condition_variable>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <vector>

#include "apps/model_flags.h"
#include "apps/number_range.h"
#include "base/clock.h"
#include "engine/serving_engine.h"
#include "text/incremental_detokenizer.h"

namespace gimbal::apps {
namespace {

struct Arguments {
  ModelFlags model;
  std::string prompt;
  bool chat = false;
  int max_tokens = 256;
  sched::SamplingParams sampling;
};

// Hands one request's outputs from the engine's thread to the one that prints. Thread-safe.
class OutputQueue final : public cluster::TokenSink {
 public:
  void on_outputs(std::span<cluster::TokenOutput> outputs) override {
    {
      const std::lock_guard lock(mutex_);
      for (cluster::TokenOutput& output : outputs)
        waiting_.push_back(std::move(output));
    }
    filled_.notify_one();
  }
  [[nodiscard]] std::vector<cluster::TokenOutput> take() {
    std::unique_lock lock(mutex_);
    filled_.wait(lock, [this] { return !waiting_.empty(); });
    return std::exchange(waiting_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable filled_;
  std::vector<cluster::TokenOutput> waiting_;
};

Result<std::vector<TokenId>> encode_prompt(const Arguments& arguments, const LoadedText& text) {
  if (!arguments.chat) return text.tokenizer->encode(arguments.prompt, true);
  if (!text.chat_template) {
    return invalid_argument(
        "--chat: the model has no chat template; give one with --chat-template");
  }
  const nlohmann::json messages = {{{"role", "user"}, {"content", arguments.prompt}}};
  GIMBAL_ASSIGN_OR_RETURN(const std::string rendered,
                          text.chat_template->render(messages.dump(
                              -1, ' ', false, nlohmann::json::error_handler_t::replace)));
  return text.tokenizer->encode(rendered, false);
}

// Prints the text as it comes; the summary goes to standard error.
Result<void> stream(const LoadedText& text, OutputQueue& outputs, std::size_t prompt_tokens,
                    TimePoint started) {
  const SteadyClock clock;
  text::IncrementalDetokenizer detokenizer(text.tokenizer->vocabulary(), true);
  TimePoint first{};
  int tokens = 0;
  std::string shown;
  for (bool ended = false; !ended;) {
    for (const cluster::TokenOutput& output : outputs.take()) {
      if (output.finish == sched::FinishReason::kFailed) {
        return Error{ErrorCode::kInternal, output.error};
      }
      if (output.token && ++tokens == 1) first = clock.now();
      const bool stop = output.finish == sched::FinishReason::kStop;
      if (output.token && !stop) detokenizer.push(*output.token, shown);
      ended = ended || output.finish.has_value();
    }
    if (ended) detokenizer.finish(shown);
    std::fwrite(shown.data(), 1, shown.size(), stdout);
    std::fflush(stdout);
    shown.clear();
  }
  std::fputc('\n', stdout);
  std::fflush(stdout);
  const double after_first = to_ms(clock.now() - first);
  fmt::print(stderr,
             "{} prompt tokens, {} generated; first after {:.0f} ms, then {:.1f} tokens/s\n",
             prompt_tokens, tokens, to_ms(first - started),
             tokens > 1 ? 1000.0 * (tokens - 1) / after_first : 0.0);
  return {};
}

Result<void> generate(Arguments& arguments) {
  if (arguments.prompt == "-") {
    arguments.prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  }
  GIMBAL_ASSIGN_OR_RETURN(const LoadedText text, load_text(arguments.model));
  GIMBAL_ASSIGN_OR_RETURN(std::vector<TokenId> prompt, encode_prompt(arguments, text));
  GIMBAL_ASSIGN_OR_RETURN(const LoadedModel loaded, load_model(arguments.model));
  const auto prompt_tokens = static_cast<std::int64_t>(prompt.size());
  OutputQueue outputs;
  engine::ServingEngineOptions options;
  options.isa = loaded.isa;
  GIMBAL_ASSIGN_OR_RETURN(const auto engine, engine::ServingEngine::start(*loaded.model, options,
                                                                          *loaded.pool, outputs));
  const std::int64_t room = engine->limits().max_model_len - prompt_tokens;
  const SteadyClock clock;
  const TimePoint started = clock.now();
  std::vector<sched::Request> requests;
  requests.push_back({.id = RequestId{1},
                      .prompt = std::move(prompt),
                      .max_tokens = static_cast<int>(std::min<std::int64_t>(
                          arguments.max_tokens, std::max<std::int64_t>(room, 1))),
                      .sampling = arguments.sampling});
  GIMBAL_RETURN_IF_ERROR(engine->submit(std::move(requests)));
  return stream(text, outputs, static_cast<std::size_t>(prompt_tokens), started);
}

}  // namespace

void add_generate(CLI::App& program, int& status) {
  auto* command = program.add_subcommand("generate", "generate from one prompt, in the terminal");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("model_dir", arguments->model.model_dir, "a Hugging Face checkpoint folder")
      ->required();
  command->add_option("prompt", arguments->prompt, "the prompt; - reads standard input")
      ->required();
  command->add_flag("--chat", arguments->chat, "wrap the prompt in the model's chat template");
  command->add_option("--max-tokens", arguments->max_tokens, "most tokens to generate")
      ->check(above_zero())
      ->capture_default_str();
  sched::SamplingParams& sampling = arguments->sampling;
  sampling.temperature = 0.0F;
  command->add_option("--temperature", sampling.temperature, "0: greedy")
      ->check(number_range(0, 100))
      ->capture_default_str();
  command->add_option("--top-p", sampling.top_p, "keep the most probable tokens up to this mass")
      ->check(number_range(1e-6, 1))
      ->capture_default_str();
  command->add_option("--top-k", sampling.top_k, "keep this many tokens; 0: all")
      ->check(at_least_zero())
      ->capture_default_str();
  command->add_option("--seed", sampling.seed, "of the random choices")->capture_default_str();
  command->add_flag("--ignore-eos", sampling.ignore_eos, "do not stop at end-of-sequence tokens");
  arguments->model.add_to(*command, true);
  command->callback([arguments, &status] {
    const auto result = generate(*arguments);
    if (!result.ok()) status = report_failure("generate", result.error());
  });
}

}  // namespace gimbal::apps
