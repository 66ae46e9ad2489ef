#include "apps/request_flags.h"

#include <CLI/CLI.hpp>
#include <string_view>

#include "apps/load_run.h"
#include "base/json.h"

namespace gimbal::apps {
namespace {

constexpr std::string_view kChatBackend = "openai-chat";
constexpr std::string_view kChatPath = "/chat/completions";

// As vllm bench serve, which refuses an endpoint that is not the backend's; without one it is.
Result<std::string> endpoint_of(const RequestFlags& flags) {
  const bool chat = flags.backend == kChatBackend;
  if (flags.endpoint.empty()) return std::string(chat ? "/v1/chat/completions" : "/v1/completions");
  if (chat && !flags.endpoint.ends_with(kChatPath)) {
    return invalid_argument(
        "--backend openai-chat needs an --endpoint that ends in /chat/completions, not " +
            flags.endpoint,
        "endpoint");
  }
  return flags.endpoint;
}

template <class T>
void put(nlohmann::json& body, const char* name, const std::optional<T>& value) {
  if (value) body[name] = *value;
}

}  // namespace

void RequestFlags::add_to(CLI::App& command) {
  const auto add = [&](const char* flag, auto& value, const char* help) {
    return command.add_option(flag, value, help)->group("Requests");
  };
  add("--backend", backend, "openai and vllm: completions; openai-chat: chat completions")
      ->check(CLI::IsMember({"openai", "vllm", "openai-chat"}))
      ->capture_default_str();
  add("--endpoint", endpoint, "path of completions or chat completions; default: the backend's");
  add("--served-model-name", served_model_name, "name in the requests; default: --model's");
  command.add_flag("--ignore-eos", ignore_eos, "make outputs as long as the workload says")
      ->group("Requests");
  add("--temperature", temperature, "0: greedy")->capture_default_str();
  const char* const kServers = "in each request; default: the server's";
  add("--top-p", top_p, kServers);
  add("--top-k", top_k, kServers);
  add("--min-p", min_p, kServers);
  add("--frequency-penalty", frequency_penalty, kServers);
  add("--presence-penalty", presence_penalty, kServers);
  add("--repetition-penalty", repetition_penalty, kServers);
  add("--extra-body", extra_body, "a JSON object whose fields go into each request");
  add("--prompt-format", prompt_format, "tokens: lists of token ids; text: about one word a token")
      ->check(CLI::IsMember({"tokens", "text"}))
      ->capture_default_str();
  add("--vocab-size", vocab_size, "of the model: prompts use ids below it")->capture_default_str();
  add("--first-token", first_token, "the first id that prompts use")->capture_default_str();
  const char* const kUnused = "accepted, but not used: the answers say how many tokens they have";
  add("--tokenizer", tokenizer, kUnused);
  add("--tokenizer-mode", tokenizer_mode, kUnused);
  command.add_flag("--trust-remote-code", trust_remote_code, kUnused)->group("Requests");
}

Result<loadgen::RequestOptions> RequestFlags::options(const WorkloadFlags& workload_flags,
                                                      const workload::Workload& requests) const {
  loadgen::RequestOptions made{.ignore_eos = ignore_eos, .temperature = temperature};
  GIMBAL_ASSIGN_OR_RETURN(made.endpoint, endpoint_of(*this));
  made.prompt_form =
      prompt_format == "text" ? loadgen::PromptForm::kText : loadgen::PromptForm::kTokens;
  made.tokens = {.vocab_size = vocab_size,
                 .first = first_token,
                 .topics = topics_of(workload_flags, requests)};
  put(made.extra_body, "top_p", top_p);
  put(made.extra_body, "top_k", top_k);
  put(made.extra_body, "min_p", min_p);
  put(made.extra_body, "frequency_penalty", frequency_penalty);
  put(made.extra_body, "presence_penalty", presence_penalty);
  put(made.extra_body, "repetition_penalty", repetition_penalty);
  if (!extra_body.empty()) {
    const auto body = parse_json(extra_body);
    if (!body.ok()) return body.error().within("--extra-body");
    if (!body->is_object()) {
      return invalid_argument("the extra body must be an object", "extra_body");
    }
    made.extra_body.update(*body);
  }
  GIMBAL_RETURN_IF_ERROR(validate(made));
  return made;
}

std::string RequestFlags::of_no_use() const {
  std::string flags;
  const auto note = [&](bool given, std::string_view flag) {
    if (!given) return;
    if (!flags.empty()) flags += ", ";
    flags += flag;
  };
  note(!tokenizer.empty(), "--tokenizer");
  note(!tokenizer_mode.empty(), "--tokenizer-mode");
  note(trust_remote_code, "--trust-remote-code");
  return flags;
}

}  // namespace gimbal::apps
