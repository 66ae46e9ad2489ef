#include "base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "base/json_place.h"

template class nlohmann::basic_json<>;

namespace gimbal {
namespace {

constexpr std::size_t kExcerptBytes = 80;

// A SAX handler that builds the document and refuses what JsonParseOptions refuses.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  Builder(Json& root, const JsonParseOptions& options) : options_(options), dom_(root, false) {}

  std::optional<Error> error;
  std::size_t error_byte = 0;  // of a text that is not JSON, from 1
  std::string error_reason;    // of it, without the place

  bool null() override { return dom_.null(); }
  bool boolean(bool value) override { return dom_.boolean(value); }
  bool number_integer(std::int64_t value) override { return dom_.number_integer(value); }
  bool number_unsigned(std::uint64_t value) override { return dom_.number_unsigned(value); }
  bool number_float(double value, const std::string& text) override {
    return dom_.number_float(value, text);
  }
  bool string(std::string& value) override { return dom_.string(value); }
  bool binary(Json::binary_t& value) override { return dom_.binary(value); }

  bool start_object(std::size_t size) override {
    keys_.emplace_back();
    return deeper() && dom_.start_object(size);
  }
  bool key(std::string& name) override {
    if (options_.unique_keys && !keys_.back().insert(name).second) {
      error =
          invalid_argument("JSON: an object has this key twice: " + name.substr(0, kExcerptBytes),
                           name.substr(0, kExcerptBytes));
      return false;
    }
    return dom_.key(name);
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return dom_.end_object();
  }
  bool start_array(std::size_t size) override { return deeper() && dom_.start_array(size); }
  bool end_array() override {
    --depth_;
    return dom_.end_array();
  }
  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& cause) override {
    // nlohmann's text is "[json.exception.…] parse error at line 1, column 5: reason".
    std::string_view reason = cause.what();
    if (const auto at = reason.find("parse error"); at != std::string_view::npos) {
      reason.remove_prefix(at);
    }
    reason = reason.substr(0, 200);
    error = invalid_argument(fmt::format("JSON: not valid at byte {}: {}", position, reason));
    error_byte = position;
    error_reason = fmt::format("JSON: not valid: {}", without_place(reason));
    return false;
  }

 private:
  // "parse error at line 1, column 5: reason" → "reason".
  static std::string_view without_place(std::string_view text) {
    if (!text.starts_with("parse error at")) return text;
    const auto colon = text.find(": ");
    return colon == std::string_view::npos ? text : text.substr(colon + 2);
  }

  bool deeper() {
    if (++depth_ <= options_.max_depth) return true;
    error = invalid_argument(fmt::format("JSON: nested deeper than {} levels", options_.max_depth));
    return false;
  }

  const JsonParseOptions& options_;
  nlohmann::detail::json_sax_dom_parser<Json> dom_;
  std::vector<std::set<std::string>> keys_;
  std::size_t depth_ = 0;
};

// With `byte`, an error's place goes there instead of into its message.
Result<Json> parse(std::string_view text, const JsonParseOptions& options, std::size_t* byte) {
  // nlohmann takes a zero byte for the end of the text.
  if (const auto zero = text.find('\0'); zero != std::string_view::npos) {
    if (byte == nullptr) {
      return invalid_argument(fmt::format("JSON: not valid at byte {}: a zero byte", zero + 1));
    }
    *byte = zero + 1;
    return invalid_argument("JSON: not valid: a zero byte");
  }
  Json root;
  Builder builder(root, options);
  try {
    const bool parsed = Json::sax_parse(text.begin(), text.end(), &builder);
    if (builder.error_byte > 0 && byte != nullptr) {
      *byte = builder.error_byte;
      return invalid_argument(builder.error_reason);
    }
    if (builder.error) return *builder.error;
    if (!parsed) return invalid_argument("JSON: not valid");
  } catch (const Json::exception& cause) {  // a number out of range, for example
    return invalid_argument(std::string("JSON: ") + cause.what());
  }
  return root;
}

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonParseOptions& options) {
  return parse(text, options, nullptr);
}

Result<Json> parse_json(std::string_view text, const JsonParseOptions& options, std::size_t& byte) {
  byte = 0;
  auto parsed = parse(text, options, &byte);
  if (!parsed.ok() && byte == 0) byte = json_byte_deeper_than(text, options.max_depth);
  byte = std::max<std::size_t>(1, byte);
  return parsed;
}

Result<Json> read_json_file(const std::string& path, std::size_t max_bytes) {
  std::error_code none;
  if (std::filesystem::is_directory(path, none)) return io_error(path, EISDIR);
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return io_error(path, errno);
  const auto size = static_cast<std::streamoff>(file.tellg());
  if (size < 0) return io_error(path, EISDIR);
  if (static_cast<std::size_t>(size) > max_bytes) {
    return invalid_argument(fmt::format("{}: larger than {} bytes: {}", path, max_bytes, size));
  }
  std::string text(static_cast<std::size_t>(size), '\0');
  file.seekg(0);
  if (!file.read(text.data(), size)) return io_error(path, EIO);
  auto parsed = parse_json(text);
  if (!parsed.ok()) return parsed.error().within(path);
  return parsed;
}

std::string excerpt(const Json& value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kExcerptBytes) text = text.substr(0, kExcerptBytes) + "…";
  return text;
}

JsonObject::JsonObject(const Json& object, std::string path)
    : object_(&object), path_(std::move(path)) {
  GIMBAL_CHECK(object.is_object());
}

Result<JsonObject> JsonObject::of(const Json& value, std::string path) {
  if (!value.is_object()) {
    return invalid_argument(
        fmt::format("{}{}must be an object, is {}", path, path.empty() ? "" : " ", excerpt(value)),
        path);
  }
  return JsonObject(value, std::move(path));
}

bool JsonObject::has(std::string_view name) const {
  const auto found = object_->find(name);
  return found != object_->end() && !found->is_null();
}

const Json* JsonObject::raw(std::string_view name) {
  asked_.emplace(name);
  const auto found = object_->find(name);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

std::string JsonObject::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

Error JsonObject::wrong(std::string_view name, std::string_view expected) const {
  const auto found = object_->find(name);
  const std::string value = found == object_->end() ? "absent" : excerpt(*found);
  return invalid_argument(fmt::format("{} must be {}, is {}", path_of(name), expected, value),
                          path_of(name));
}

Result<std::optional<std::int64_t>> JsonObject::integer(std::string_view name, std::int64_t low,
                                                        std::int64_t high) {
  const Json* value = raw(name);
  if (value == nullptr) return std::optional<std::int64_t>{};
  std::optional<std::int64_t> number;
  if (value->is_number_unsigned()) {
    const auto wide = value->get<std::uint64_t>();
    if (wide <= static_cast<std::uint64_t>(INT64_MAX)) number = static_cast<std::int64_t>(wide);
  } else if (value->is_number_integer()) {
    number = value->get<std::int64_t>();
  } else if (value->is_number_float()) {  // 1.0 and 1e3 are integers too
    const double real = value->get<double>();
    if (std::nearbyint(real) == real && std::abs(real) < 0x1p53) {
      number = static_cast<std::int64_t>(real);
    }
  }
  if (!number || *number < low || *number > high) {
    return wrong(name, fmt::format("an integer from {} to {}", low, high));
  }
  return number;
}

Result<std::optional<double>> JsonObject::number(std::string_view name, double low, double high) {
  const Json* value = raw(name);
  if (value == nullptr) return std::optional<double>{};
  if (!value->is_number() || !(value->get<double>() >= low && value->get<double>() <= high)) {
    return wrong(name, fmt::format("a number from {} to {}", low, high));
  }
  return std::optional(value->get<double>());
}

Result<std::optional<bool>> JsonObject::boolean(std::string_view name) {
  const Json* value = raw(name);
  if (value == nullptr) return std::optional<bool>{};
  if (!value->is_boolean()) return wrong(name, "true or false");
  return std::optional(value->get<bool>());
}

Result<std::optional<std::string>> JsonObject::string(std::string_view name) {
  const Json* value = raw(name);
  if (value == nullptr) return std::optional<std::string>{};
  if (!value->is_string()) return wrong(name, "a string");
  return std::optional(value->get<std::string>());
}

Result<void> JsonObject::read(std::string_view name, std::int64_t low, std::int64_t high,
                              int& out) {
  GIMBAL_ASSIGN_OR_RETURN(const auto found, integer(name, low, high));
  if (found) out = static_cast<int>(*found);
  return {};
}

Result<void> JsonObject::read(std::string_view name, double low, double high, float& out) {
  GIMBAL_ASSIGN_OR_RETURN(const auto found, number(name, low, high));
  if (found) out = static_cast<float>(*found);
  return {};
}

Result<void> JsonObject::read(std::string_view name, double low, double high, double& out) {
  GIMBAL_ASSIGN_OR_RETURN(const auto found, number(name, low, high));
  if (found) out = *found;
  return {};
}

Result<void> JsonObject::read(std::string_view name, bool& out) {
  GIMBAL_ASSIGN_OR_RETURN(const auto found, boolean(name));
  if (found) out = *found;
  return {};
}

Result<void> JsonObject::read(std::string_view name, std::string& out) {
  GIMBAL_ASSIGN_OR_RETURN(auto found, string(name));
  if (found) out = std::move(*found);
  return {};
}

std::vector<std::string> JsonObject::unread() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_->items()) {
    if (!asked_.contains(name)) names.push_back(name);
  }
  return names;
}

}  // namespace gimbal
