#include "text/tokenizer.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>

#include "interpreter/python.h"
#include "text/incremental_detokenizer.h"

namespace gimbal::text {
namespace {

namespace py = pybind11;
using interpreter::to_python;
using interpreter::with_python;

constexpr std::int64_t kFileBytes = 512 << 20;
constexpr std::int64_t kHighestId = (1 << 24) - 1;

// Returns the tokenizer, the JSON of its decoder, and for each id the text before any decoder ran,
// whether the id exists, and whether it is special. The decoder is taken out: decoding is ours.
// A first text is encoded, because some broken files fail no sooner.
constexpr const char* kLoad = R"python(
def load(path, highest_id):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for add_special_tokens in (False, True):
        tokenizer.encode_batch_fast(["a"], add_special_tokens=add_special_tokens)
    decoder = b"null" if tokenizer.decoder is None else tokenizer.decoder.__getstate__()
    tokenizer.decoder = None
    added = tokenizer.get_added_tokens_decoder()
    size = max([*tokenizer.get_vocab(True).values(), *added, -1]) + 1
    if size > highest_id + 1:
        raise ValueError(f"token ids must be at most {highest_id}, one is {size - 1}")
    texts = tokenizer.decode_batch([[i] for i in range(size)], skip_special_tokens=False)
    present = [text != "" or tokenizer.id_to_token(i) is not None for i, text in enumerate(texts)]
    special_texts = {token.content for token in added.values() if token.special}
    special = [text in special_texts for text in texts]
    return tokenizer, decoder, texts, present, special
)python";

// A regular file of a bearable size.
Result<void> check_file(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    const int error_number = errno;
    Error error = io_error(path, error_number);
    if (error_number == ENOENT || error_number == ENOTDIR) error.code = ErrorCode::kNotFound;
    return error;
  }
  if (!S_ISREG(status.st_mode)) return invalid_argument("not a file: " + path);
  if (status.st_size > kFileBytes) {
    return invalid_argument(
        fmt::format("{}: larger than {} bytes: {}", path, kFileBytes, status.st_size));
  }
  return {};
}

std::vector<TokenId> ids_of(const py::handle& encoding) {
  const py::list list = encoding.attr("ids");
  std::vector<TokenId> ids(list.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<TokenId>(
        PyLong_AsLong(PyList_GET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i))));
  }
  return ids;
}

}  // namespace

struct __attribute__((visibility("hidden"))) Tokenizer::Python {
  py::object tokenizer;
  py::object encode;  // its encode_batch_fast
};

Result<std::unique_ptr<Tokenizer>> Tokenizer::load(const interpreter::Interpreter& interpreter,
                                                   const std::string& model_dir) {
  const std::string path = model_dir + "/tokenizer.json";
  GIMBAL_RETURN_IF_ERROR(check_file(path));
  auto python = std::make_unique<Python>();
  std::vector<VocabularyEntry> entries;
  std::string decoder;
  auto loaded = with_python(interpreter, [&]() -> Result<void> {
    py::dict scope;
    scope["__builtins__"] = py::module_::import("builtins");
    py::exec(kLoad, scope);
    const py::tuple parts = scope["load"](to_python(path), kHighestId);
    const py::list texts = parts[2];
    const py::list present = parts[3];
    const py::list special = parts[4];
    for (std::size_t i = 0; i < texts.size(); ++i) {
      entries.push_back({.text = texts[i].cast<std::string>(),
                         .present = present[i].cast<bool>(),
                         .special = special[i].cast<bool>()});
    }
    decoder = parts[1].cast<std::string>();
    python->tokenizer = parts[0];
    python->encode = python->tokenizer.attr("encode_batch_fast");
    return {};
  });
  if (!loaded.ok()) {
    // The library's exceptions have no type of their own. What fails here is the file.
    Error error = loaded.error().within(path);
    if (error.code == ErrorCode::kInternal) error.code = ErrorCode::kInvalidArgument;
    return error;
  }
  auto vocabulary = Vocabulary::make(entries, decoder);
  // From here on the destructor releases the Python objects under the GIL.
  std::unique_ptr<Tokenizer> tokenizer(
      new Tokenizer(interpreter, std::move(python),
                    vocabulary.ok() ? std::move(vocabulary).value() : Vocabulary()));
  if (!vocabulary.ok()) return vocabulary.error().within(path);
  return tokenizer;
}

Tokenizer::Tokenizer(const interpreter::Interpreter& interpreter, std::unique_ptr<Python> python,
                     Vocabulary vocabulary)
    : interpreter_(interpreter), python_(std::move(python)), vocabulary_(std::move(vocabulary)) {
  for (TokenId id = 0; static_cast<std::size_t>(id) < vocabulary_.size(); ++id) {
    if (vocabulary_.is_special(id)) special_ids_.push_back(id);
  }
}

Tokenizer::~Tokenizer() {
  const interpreter::GilGuard gil(interpreter_);
  python_.reset();
}

Result<std::vector<TokenId>> Tokenizer::encode(std::string_view text,
                                               bool add_special_tokens) const {
  return with_python(interpreter_, [&]() -> Result<std::vector<TokenId>> {
    py::list texts;
    texts.append(to_python(text));
    const py::list encodings =
        python_->encode(texts, py::arg("add_special_tokens") = add_special_tokens);
    return ids_of(encodings[0]);
  });
}

Result<std::vector<std::vector<TokenId>>> Tokenizer::encode_batch(
    std::span<const std::string> texts, bool add_special_tokens) const {
  return with_python(interpreter_, [&]() -> Result<std::vector<std::vector<TokenId>>> {
    py::list list;
    for (const std::string& text : texts)
      list.append(to_python(text));
    const py::list encodings =
        python_->encode(list, py::arg("add_special_tokens") = add_special_tokens);
    std::vector<std::vector<TokenId>> ids;
    for (const py::handle& encoding : encodings)
      ids.push_back(ids_of(encoding));
    return ids;
  });
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  IncrementalDetokenizer detokenizer(vocabulary_, skip_special_tokens);
  std::string text;
  for (const TokenId id : ids)
    detokenizer.push(id, text);
  detokenizer.finish(text);
  return text;
}

Result<std::optional<TokenId>> Tokenizer::token_to_id(std::string_view text) const {
  return with_python(interpreter_, [&]() -> Result<std::optional<TokenId>> {
    const py::object id = python_->tokenizer.attr("token_to_id")(to_python(text));
    if (id.is_none()) return std::optional<TokenId>();
    return std::optional(id.cast<TokenId>());
  });
}

}  // namespace gimbal::text
