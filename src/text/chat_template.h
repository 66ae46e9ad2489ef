#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "interpreter/interpreter.h"

namespace gimbal::text {

struct RenderOptions {
  // Ends the prompt with the start of the assistant's answer.
  bool add_generation_prompt = true;
  // A JSON object of further variables (a request's `chat_template_kwargs`); empty for none. They
  // may replace the special tokens, but not the other variables that the template is given.
  std::string kwargs_json = {};
  // The prompt may have this many bytes.
  std::size_t max_output_bytes = 64u << 20;
  // And take this long to write.
  Duration max_time = std::chrono::seconds(10);
};

// A model's chat template, run by Jinja2 in its immutable sandbox with the settings, filters and
// variables that Hugging Face transformers gives it. Thread-safe; rendering holds the GIL, but
// gives it up to other threads every few milliseconds as Python does.
//
// The template comes from the operator, never from a request. The bounds of RenderOptions stop
// accidents, not attacks: size and time are looked at whenever the template writes, calls,
// multiplies or reads an attribute, so a single step (joining two huge strings, say) runs to its
// end.
class ChatTemplate final {
 public:
  // Takes the template from the file `template_file` if given, else from
  // `model_dir`/chat_template.jinja, else from `chat_template` in `model_dir`/tokenizer_config.json
  // (a string, or a list of named ones: "default"), and the special tokens from
  // tokenizer_config.json. kNotFound when there is no template; other errors name the file.
  // `interpreter` must outlive the template.
  [[nodiscard]] static Result<std::unique_ptr<ChatTemplate>> load(
      const interpreter::Interpreter& interpreter, const std::string& model_dir,
      const std::string& template_file = {});

  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // The prompt for `messages_json`, a JSON list of messages. What goes wrong inside the template,
  // its own raise_exception included, is kInvalidArgument of the field `messages`; so are the
  // bounds. Errors in `kwargs_json` are of the field `chat_template_kwargs`.
  [[nodiscard]] Result<std::string> render(std::string_view messages_json,
                                           const RenderOptions& options = {}) const;

  // The special tokens that tokenizer_config.json names.
  [[nodiscard]] const std::optional<std::string>& bos_token() const { return bos_token_; }
  [[nodiscard]] const std::optional<std::string>& eos_token() const { return eos_token_; }

 private:
  struct Python;

  ChatTemplate(const interpreter::Interpreter& interpreter, std::unique_ptr<Python> python);

  const interpreter::Interpreter& interpreter_;
  std::unique_ptr<Python> python_;
  std::optional<std::string> bos_token_;
  std::optional<std::string> eos_token_;
};

}  // namespace gimbal::text
