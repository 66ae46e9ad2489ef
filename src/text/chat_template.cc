#include "text/chat_template.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "interpreter/python.h"
#include "text/chat_template_script.h"

namespace gimbal::text {
namespace {

namespace py = pybind11;
using interpreter::to_python;
using interpreter::with_python;

constexpr std::size_t kTemplateBytes = 4u << 20;
constexpr std::array kTokenNames = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

Result<std::string> read_text(const std::string& path) {
  if (!exists(path)) {
    return Error{ErrorCode::kNotFound, "no such file: " + path, "chat-template"};
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(kTemplateBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad() || (file.gcount() == 0 && !file.eof())) return io_error(path, EIO);
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kTemplateBytes) {
    return invalid_argument(fmt::format("{}: larger than {} bytes", path, kTemplateBytes));
  }
  return text;
}

struct Source {
  std::string text;
  std::string path;  // for errors
};

// `chat_template` in the configuration: a string, or [{"name": …, "template": …}].
Result<Source> source_in(JsonObject& config, const std::string& path) {
  const Json* value = config.raw("chat_template");
  if (value == nullptr) {
    return Error{ErrorCode::kNotFound, "the model has no chat template: " + path, "chat_template"};
  }
  if (value->is_string()) return Source{value->get<std::string>(), path};
  if (!value->is_array()) {
    return config.wrong("chat_template", "a string or a list of named templates").within(path);
  }
  for (const Json& named : *value) {
    if (!named.is_object()) continue;
    const auto name = named.find("name");
    const auto text = named.find("template");
    if (name != named.end() && *name == "default" && text != named.end() && text->is_string()) {
      return Source{text->get<std::string>(), path};
    }
  }
  return Error{ErrorCode::kNotFound,
               path + ": chat_template is a list without a template named \"default\"",
               "chat_template"};
}

// The special tokens that a template may name; each is a string or {"content": string}.
Result<Json> special_tokens(JsonObject& config, const std::string& path) {
  Json tokens = Json::object();
  for (const char* name : kTokenNames) {
    const Json* value = config.raw(name);
    if (value == nullptr) continue;
    if (value->is_object() && value->contains("content")) value = &(*value)["content"];
    if (!value->is_string()) {
      return config.wrong(name, "a string or {\"content\": string}").within(path);
    }
    tokens[name] = *value;
  }
  return tokens;
}

std::optional<std::string> token_in(const Json& tokens, const char* name) {
  const auto found = tokens.find(name);
  if (found == tokens.end()) return std::nullopt;
  return found->get<std::string>();
}

}  // namespace

struct __attribute__((visibility("hidden"))) ChatTemplate::Python {
  py::object compiled;
  py::object render;
  py::object kwargs_error;
};

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::load(
    const interpreter::Interpreter& interpreter, const std::string& model_dir,
    const std::string& template_file) {
  const std::string config_path = model_dir + "/tokenizer_config.json";
  Json config = Json::object();
  if (exists(config_path)) {
    GIMBAL_ASSIGN_OR_RETURN(config, read_json_file(config_path));
    if (!config.is_object()) return invalid_argument(config_path + ": must be an object");
  }
  JsonObject fields(config);
  GIMBAL_ASSIGN_OR_RETURN(const Json tokens, special_tokens(fields, config_path));

  Source source;
  const std::string beside = model_dir + "/chat_template.jinja";
  if (!template_file.empty() || exists(beside)) {
    source.path = template_file.empty() ? beside : template_file;
    GIMBAL_ASSIGN_OR_RETURN(source.text, read_text(source.path));
  } else {
    GIMBAL_ASSIGN_OR_RETURN(source, source_in(fields, config_path));
  }

  auto python = std::make_unique<Python>();
  auto compiled = with_python(interpreter, [&]() -> Result<void> {
    py::dict scope;
    scope["__builtins__"] = py::module_::import("builtins");
    scope["__name__"] = "gimbal_chat_template";
    py::exec(kChatTemplateScript, scope);
    python->compiled = scope["compile_template"](to_python(source.text), tokens.dump());
    python->render = scope["render_template"];
    python->kwargs_error = scope["KwargsError"];
    return {};
  });
  std::unique_ptr<ChatTemplate> result(new ChatTemplate(interpreter, std::move(python)));
  if (!compiled.ok()) {
    Error error = compiled.error().within(source.path);
    error.code = ErrorCode::kInvalidArgument;
    error.field = "chat_template";
    return error;
  }
  result->bos_token_ = token_in(tokens, "bos_token");
  result->eos_token_ = token_in(tokens, "eos_token");
  return result;
}

ChatTemplate::ChatTemplate(const interpreter::Interpreter& interpreter,
                           std::unique_ptr<Python> python)
    : interpreter_(interpreter), python_(std::move(python)) {}

ChatTemplate::~ChatTemplate() {
  const interpreter::GilGuard gil(interpreter_);
  python_.reset();
}

Result<std::string> ChatTemplate::render(std::string_view messages_json,
                                         const RenderOptions& options) const {
  return with_python(interpreter_, [&]() -> Result<std::string> {
    try {
      const py::bytes prompt = python_->render(
          python_->compiled, to_python(messages_json), to_python(options.kwargs_json),
          options.add_generation_prompt, options.max_output_bytes,
          std::chrono::duration<double>(options.max_time).count());
      return std::string(prompt);
    } catch (const py::error_already_set& exception) {
      Error error = interpreter::to_error(exception);
      if (exception.matches(python_->kwargs_error)) {
        error.field = "chat_template_kwargs";
      } else {
        error = error.within("messages: the chat template refused them");
        error.field = "messages";
      }
      error.code = ErrorCode::kInvalidArgument;
      return error;
    }
  });
}

}  // namespace gimbal::text
