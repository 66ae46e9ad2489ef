#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

extern template class nlohmann::basic_json<>;  // compiled once, in json.cc

namespace gimbal {

using Json = nlohmann::json;

struct JsonParseOptions {
  std::size_t max_depth = 64;
  // Refuse an object that has one key twice (nlohmann keeps the last silently).
  bool unique_keys = true;
};

// Parses strict JSON (UTF-8). The error says where (byte) and what, never more than a short
// excerpt.
[[nodiscard]] Result<Json> parse_json(std::string_view text, const JsonParseOptions& options = {});
// The same for a text that is a part of a file, whose places are not the file's: an error says only
// what, and `byte` where, from 1 (of a key that is there twice only 1).
[[nodiscard]] Result<Json> parse_json(std::string_view text, const JsonParseOptions& options,
                                      std::size_t& byte);

// Reads and parses a whole file; errors name the path.
[[nodiscard]] Result<Json> read_json_file(const std::string& path,
                                          std::size_t max_bytes = 64u << 20);

// The value as it would be shown in an error: JSON text, cut to a short length.
[[nodiscard]] std::string excerpt(const Json& value);

// Reads fields of one JSON object with types and ranges checked. Errors carry the field's path
// ("stream_options.include_usage"), its value and what would be accepted. `null` counts as absent.
// Remembers which fields were asked for, so that the others can be named. One thread; refers to
// the object, which must outlive it.
class JsonObject {
 public:
  // Requires: object.is_object(). `path` is the object's own place, "" for the root.
  explicit JsonObject(const Json& object, std::string path = {});
  // As the constructor, but a value that is not an object is an error.
  [[nodiscard]] static Result<JsonObject> of(const Json& value, std::string path = {});

  [[nodiscard]] bool has(std::string_view name) const;  // present and not null

  // Absent: nullopt. Wrong type or out of [low, high]: an error.
  [[nodiscard]] Result<std::optional<std::int64_t>> integer(std::string_view name, std::int64_t low,
                                                            std::int64_t high);
  [[nodiscard]] Result<std::optional<double>> number(std::string_view name, double low,
                                                     double high);
  [[nodiscard]] Result<std::optional<bool>> boolean(std::string_view name);
  [[nodiscard]] Result<std::optional<std::string>> string(std::string_view name);

  // Assign `out` when the field is present; leave it when absent.
  [[nodiscard]] Result<void> read(std::string_view name, std::int64_t low, std::int64_t high,
                                  int& out);
  [[nodiscard]] Result<void> read(std::string_view name, double low, double high, float& out);
  [[nodiscard]] Result<void> read(std::string_view name, double low, double high, double& out);
  [[nodiscard]] Result<void> read(std::string_view name, bool& out);
  [[nodiscard]] Result<void> read(std::string_view name, std::string& out);

  // The raw value, or nullptr when absent or null; marks the field as known.
  [[nodiscard]] const Json* raw(std::string_view name);

  // An error about a field of this object.
  [[nodiscard]] Error wrong(std::string_view name, std::string_view expected) const;
  [[nodiscard]] std::string path_of(std::string_view name) const;

  // Names of present fields that nothing has asked for.
  [[nodiscard]] std::vector<std::string> unread() const;

 private:
  const Json* object_;
  std::string path_;
  std::set<std::string, std::less<>> asked_;
};

}  // namespace gimbal
