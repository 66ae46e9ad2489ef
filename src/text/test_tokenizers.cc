#include "text/test_tokenizers.h"

#include <fstream>

#include "interpreter/python.h"

namespace gimbal::text {
namespace {

namespace py = pybind11;

constexpr const char* kMake = R"python(
import json
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

def train(tokenizer, text, **options):
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False, **options)
    tokenizer.train_from_iterator([text], trainer)

def byte_level(text):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, text, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
          special_tokens=["<|end|>", "<|start|>"])
    # Added texts that are outside of the byte map, inside of it, partly so, and normalized.
    tokenizer.add_tokens(["日本", "Ġé", "é x", "", AddedToken("<TOOL>", normalized=True)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer.to_str()

def byte_fallback(text, strip=True):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    train(tokenizer, text)
    content = json.loads(tokenizer.to_str())
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    vocab = {name: i for i, name in enumerate(names)}
    for name in sorted(content["model"]["vocab"], key=content["model"]["vocab"].get):
        vocab.setdefault(name, len(vocab))
    content["model"].update(vocab=vocab, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    content["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)] if strip else steps)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.add_tokens(["[INST]", "  ▁", "<0x+5>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer.to_str()

def metaspace(text):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    train(tokenizer, text, special_tokens=["<unk>", "</s>"])
    tokenizer.add_tokens(["▁▁added▁"])
    return tokenizer.to_str()

def no_decoder(text):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    train(tokenizer, text, special_tokens=["<unk>", "</s>"])
    return tokenizer.to_str()

def make(kind, text):
    if kind == "byte_fallback_no_strip":
        return byte_fallback(text, strip=False)
    return globals()[kind](text)
)python";

}  // namespace

// The formatter would break the line of emoji anew each time.
// clang-format off
const char* const kManyScripts =
    "The quick brown fox jumps over the lazy dog. It's 12:34, isn't it?\n"
    "Zażółć gęślą jaźń; l'été à Liège — “cœur” naïve\tÆØÅ.\n"
    "Съешь ещё этих мягких французских булок, да выпей же чаю.\n"
    "我能吞下玻璃而不伤身体。日本語のテキストもあります。한국어도 있습니다.\n"
    "नमस्ते दुनिया، مرحبا بالعالم، שלום עולם, สวัสดีชาวโลก\n"
    "Emoji: 😀👩‍👩‍👧‍👦🇺🇳 ✅ math: ∑ x² ≤ ∞ 𝔸𝔹ℂ  double  spaces   "
    "end\n";
// clang-format on

const interpreter::Interpreter& test_python() {
  static const auto interpreter = interpreter::Interpreter::start({GIMBAL_PYTHON_ENV});
  return **interpreter;
}

std::vector<std::string> library_decode(const std::string& folder,
                                        const std::vector<std::vector<TokenId>>& sequences,
                                        bool skip_special_tokens) {
  const interpreter::GilGuard gil(test_python());
  const py::object tokenizer = py::module_::import("tokenizers")
                                   .attr("Tokenizer")
                                   .attr("from_file")(folder + "/tokenizer.json");
  py::list lists;
  for (const auto& ids : sequences) {
    py::list list;
    for (const TokenId id : ids)
      list.append(id);
    lists.append(list);
  }
  const py::list decoded =
      tokenizer.attr("decode_batch")(lists, py::arg("skip_special_tokens") = skip_special_tokens);
  std::vector<std::string> texts;
  for (const auto& text : decoded)
    texts.push_back(text.cast<std::string>());
  return texts;
}

std::vector<TokenId> library_encode(const std::string& folder, const std::string& text,
                                    bool add_special_tokens) {
  const interpreter::GilGuard gil(test_python());
  const py::list ids = py::module_::import("tokenizers")
                           .attr("Tokenizer")
                           .attr("from_file")(folder + "/tokenizer.json")
                           .attr("encode")(text, py::arg("add_special_tokens") = add_special_tokens)
                           .attr("ids");
  std::vector<TokenId> result;
  for (const auto& id : ids)
    result.push_back(id.cast<TokenId>());
  return result;
}

void make_tokenizer(const std::string& folder, const std::string& kind) {
  const interpreter::GilGuard gil(test_python());
  py::dict scope;
  scope["__builtins__"] = py::module_::import("builtins");
  py::exec(kMake, scope);
  const auto json = scope["make"](kind, kManyScripts).cast<std::string>();
  std::ofstream(folder + "/tokenizer.json", std::ios::binary) << json;
}

}  // namespace gimbal::text
