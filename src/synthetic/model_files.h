#pragma once

#include <string>
#include <vector>

#include "synthetic/options.h"

namespace gimbal::synthetic {

// A small file of the model's folder.
struct TextFile {
  std::string name;
  std::string text;
};

// config.json with the fields that published checkpoints of the family have.
[[nodiscard]] TextFile config_file(const SyntheticOptions& options);

// Everything but the weights: config.json, generation_config.json, tokenizer.json and
// tokenizer_config.json (with a ChatML template). The tokenizer is a byte-level BPE without
// normalisation, so any UTF-8 text survives encoding and decoding; the last three ids are
// <|endoftext|>, <|im_start|> and <|im_end|>. Requires: validate(options) is ok.
[[nodiscard]] std::vector<TextFile> text_files(const SyntheticOptions& options);

}  // namespace gimbal::synthetic
