#pragma once

#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "workload/request_spec.h"

namespace gimbal::workload {

// The vocabulary that prompts are made from. Topic t of T owns the ids in [⌈t·V/T⌉, ⌈(t+1)·V/T⌉),
// as in the models of `make-model --topics T`, without the ids below `first`, which are special
// tokens.
struct TokenSpace {
  TokenId vocab_size = 4096;
  TokenId first = 260;  // the first id to use
  int topics = 1;
};

// Errors: no id is left for some topic. The field names the value at fault.
[[nodiscard]] Result<void> validate(const TokenSpace& space);

// The tokens that a prompt's parts stand for. Topics beyond the space's wrap around.
// Requires: validate(space).ok().
[[nodiscard]] std::vector<TokenId> prompt_tokens(const RequestSpec& request,
                                                 const TokenSpace& space);

// For servers that take no token ids: about one short word a token, the same for the same prefix.
// The server's own count is what was really sent. A request that has text is that text.
[[nodiscard]] std::string prompt_text(const RequestSpec& request, const TokenSpace& space);

}  // namespace gimbal::workload
