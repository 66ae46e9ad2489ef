#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "server/openai_request.h"

namespace gimbal {
class JsonObject;
}

namespace gimbal::server {

// The fields that both generating endpoints have: sampling, stops, streaming, class and keys.
// Log probabilities and max_tokens differ and are read elsewhere.
[[nodiscard]] Result<void> read_shared_fields(JsonObject& body, const RequestLimits& limits,
                                              GenerationRequest& out);

// Refuses, as kUnsupported, fields that ask for what this server does not have. Values that ask
// for nothing pass: null, false, "", empty lists and objects, and each field's own neutral value.
[[nodiscard]] Result<void> refuse_unsupported_fields(JsonObject& body, Endpoint endpoint);

}  // namespace gimbal::server
