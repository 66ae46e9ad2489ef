#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "interpreter/interpreter.h"
#include "text/vocabulary.h"

namespace gimbal::text {

// A model's tokenizer: the tokenizer.json of its folder, run by Hugging Face `tokenizers`, so that
// texts become the ids that the model's authors had. Decoding is native and takes no lock.
// Thread-safe; while a text is encoded the GIL is free.
class Tokenizer final {
 public:
  // Reads `model_dir`/tokenizer.json. Truncation and padding that it may ask for are switched off.
  // Errors name the file: kNotFound, kInvalidArgument (not a tokenizer, or one that fails on a
  // first text), kUnsupported (a decoder that cannot run token by token).
  // `interpreter` must outlive the tokenizer.
  [[nodiscard]] static Result<std::unique_ptr<Tokenizer>> load(
      const interpreter::Interpreter& interpreter, const std::string& model_dir);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // The ids of `text`. Special tokens that the text spells out, as a chat template's output does,
  // become their ids in any case; `add_special_tokens` says whether the tokenizer's post-processor
  // adds those of its own (a BOS, for example). Text that is not UTF-8 is kInvalidArgument.
  [[nodiscard]] Result<std::vector<TokenId>> encode(std::string_view text,
                                                    bool add_special_tokens) const;
  // encode() for several texts in one call, on all cores.
  [[nodiscard]] Result<std::vector<std::vector<TokenId>>> encode_batch(
      std::span<const std::string> texts, bool add_special_tokens) const;

  // The text of `ids`, as the library decodes them; ids outside of the vocabulary add nothing.
  [[nodiscard]] std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const;

  // The id that the token `text` has in the vocabulary or among the added tokens. Takes the GIL.
  [[nodiscard]] Result<std::optional<TokenId>> token_to_id(std::string_view text) const;

  // For an IncrementalDetokenizer.
  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }
  // One more than the highest id, added tokens included.
  [[nodiscard]] std::size_t vocab_size() const { return vocabulary_.size(); }
  // See Vocabulary.
  [[nodiscard]] std::string_view token_bytes(TokenId id) const {
    return vocabulary_.token_bytes(id);
  }
  [[nodiscard]] std::size_t longest_token_bytes() const {
    return vocabulary_.longest_token_bytes();
  }
  // Ids of the special tokens, ascending.
  [[nodiscard]] const std::vector<TokenId>& special_ids() const { return special_ids_; }

 private:
  struct Python;  // the objects behind it

  Tokenizer(const interpreter::Interpreter& interpreter, std::unique_ptr<Python> python,
            Vocabulary vocabulary);

  const interpreter::Interpreter& interpreter_;
  std::unique_ptr<Python> python_;
  Vocabulary vocabulary_;
  std::vector<TokenId> special_ids_;
};

}  // namespace gimbal::text
