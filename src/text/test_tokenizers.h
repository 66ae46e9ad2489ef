#pragma once

// For this module's tests: the embedded Python, and small tokenizers made and run by the library.

#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/temporary_folder.h"
#include "interpreter/interpreter.h"

namespace gimbal::text {

// Started at the first call, for the whole process.
const interpreter::Interpreter& test_python();

// Ids decoded by the library itself, one text for each sequence.
std::vector<std::string> library_decode(const std::string& folder,
                                        const std::vector<std::vector<TokenId>>& sequences,
                                        bool skip_special_tokens);
std::vector<TokenId> library_encode(const std::string& folder, const std::string& text,
                                    bool add_special_tokens);

// Some text of many scripts, for training and round trips.
extern const char* const kManyScripts;

// Writes `folder`/tokenizer.json: `kind` is "byte_level", "byte_fallback",
// "byte_fallback_no_strip", "metaspace" or "no_decoder".
void make_tokenizer(const std::string& folder, const std::string& kind);
inline const char* const kTokenizerKinds[] = {"byte_level", "byte_fallback",
                                              "byte_fallback_no_strip", "metaspace", "no_decoder"};

}  // namespace gimbal::text
