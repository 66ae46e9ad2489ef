#include "checkpoint/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "base/json.h"

namespace gimbal::checkpoint {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::size_t kHeaderDepth = 3;  // the header, a tensor, its shape
constexpr std::size_t kShownNameBytes = 200;

// A tensor's name as errors show it.
std::string shown(std::string_view name) {
  return fmt::format("tensor \"{}\"", name.substr(0, kShownNameBytes));
}

Result<std::vector<std::int64_t>> read_shape(JsonObject& tensor) {
  const Json* list = tensor.raw("shape");
  const std::string_view expected = "a list of integers, 0 or more";
  if (list == nullptr || !list->is_array()) return tensor.wrong("shape", expected);
  std::vector<std::int64_t> shape;
  shape.reserve(list->size());
  for (const Json& item : *list) {
    if (!item.is_number_unsigned() || item.get<std::uint64_t>() > INT64_MAX) {
      return tensor.wrong("shape", expected);
    }
    shape.push_back(item.get<std::int64_t>());
  }
  return shape;
}

// The bytes of `shape` elements; an error when they overflow or end inside a byte.
Result<std::uint64_t> bytes_of(const JsonObject& tensor, const StoredType& type,
                               std::span<const std::int64_t> shape) {
  std::uint64_t bits = 1;
  for (const auto dimension : shape) {
    if (__builtin_mul_overflow(bits, static_cast<std::uint64_t>(dimension), &bits)) {
      return tensor.wrong("shape", "a shape whose size fits in 64 bits");
    }
  }
  if (__builtin_mul_overflow(bits, std::uint64_t{type.bits}, &bits)) {
    return tensor.wrong("shape", "a shape whose size fits in 64 bits");
  }
  if (bits % 8 != 0) {
    return tensor.wrong("shape", fmt::format("whole bytes of {}", type.name));
  }
  return bits / 8;
}

// The two offsets, counted from the start of the data.
Result<std::pair<std::uint64_t, std::uint64_t>> read_offsets(JsonObject& tensor,
                                                             std::uint64_t data_bytes) {
  const Json* list = tensor.raw("data_offsets");
  const auto wrong = [&] {
    return tensor.wrong("data_offsets",
                        fmt::format("two ascending offsets from 0 to {}", data_bytes));
  };
  if (list == nullptr || !list->is_array() || list->size() != 2) return wrong();
  if (!(*list)[0].is_number_unsigned() || !(*list)[1].is_number_unsigned()) return wrong();
  const auto begin = (*list)[0].get<std::uint64_t>();
  const auto end = (*list)[1].get<std::uint64_t>();
  if (begin > end || end > data_bytes) return wrong();
  return std::pair(begin, end);
}

Result<TensorEntry> read_tensor(const std::string& name, const Json& value,
                                std::uint64_t data_offset, std::uint64_t file_size) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject tensor, JsonObject::of(value, shown(name)));
  TensorEntry entry{.name = name, .type = {}, .shape = {}};
  std::string type_name;
  GIMBAL_RETURN_IF_ERROR(tensor.read("dtype", type_name));
  const StoredType* type = find_stored_type(type_name);
  if (type == nullptr) return tensor.wrong("dtype", "an element type of the format");
  entry.type = *type;
  GIMBAL_ASSIGN_OR_RETURN(entry.shape, read_shape(tensor));
  GIMBAL_ASSIGN_OR_RETURN(entry.bytes, bytes_of(tensor, *type, entry.shape));
  GIMBAL_ASSIGN_OR_RETURN(const auto offsets, read_offsets(tensor, file_size - data_offset));
  if (offsets.second - offsets.first != entry.bytes) {
    return tensor.wrong("data_offsets",
                        fmt::format("{} bytes apart, for {} elements of shape {}", entry.bytes,
                                    type->name, shape_text(entry.shape)));
  }
  entry.offset = data_offset + offsets.first;
  if (const auto unknown = tensor.unread(); !unknown.empty()) {
    return tensor.wrong(unknown.front(), "absent: a tensor has dtype, shape and data_offsets only");
  }
  return entry;
}

Result<std::map<std::string, std::string>> read_metadata(const Json& value) {
  std::map<std::string, std::string> metadata;
  if (!value.is_object()) {
    return invalid_argument("__metadata__ must be an object, is " + excerpt(value), "__metadata__");
  }
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      return invalid_argument(fmt::format("__metadata__ must hold strings, {} is {}",
                                          excerpt(Json(key)), excerpt(text)),
                              "__metadata__");
    }
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

// The format wants the data covered once and whole.
Result<void> check_coverage(const SafetensorsHeader& header, std::uint64_t file_size) {
  std::uint64_t at = header.data_offset;
  const TensorEntry* before = nullptr;
  for (const auto& tensor : header.tensors) {
    if (tensor.offset != at) {
      return invalid_argument(fmt::format(
          "{} begins at byte {} of the data, where {} {} ends at {}: {}", shown(tensor.name),
          tensor.offset - header.data_offset, before == nullptr ? "what comes" : "the one before,",
          before == nullptr ? "before" : shown(before->name), at - header.data_offset,
          tensor.offset < at ? "they overlap" : "a hole between them"));
    }
    at += tensor.bytes;
    before = &tensor;
  }
  if (at != file_size) {
    return invalid_argument(
        fmt::format("tensors end at byte {}, but the file at {}", at, file_size));
  }
  return {};
}

}  // namespace

Result<std::uint64_t> parse_header_length(std::span<const std::byte, 8> bytes,
                                          std::uint64_t file_size) {
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    length |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  }
  if (length > kMaxHeaderBytes) {
    return invalid_argument(
        fmt::format("header length must be at most {} bytes, is {}", kMaxHeaderBytes, length));
  }
  if (file_size < kLengthBytes || length > file_size - kLengthBytes) {
    return invalid_argument(
        fmt::format("header of {} bytes does not fit in a file of {} bytes", length, file_size));
  }
  return length;
}

Result<SafetensorsHeader> parse_header(std::string_view json, std::uint64_t file_size) {
  GIMBAL_CHECK(kLengthBytes + json.size() <= file_size);
  if (!json.starts_with('{')) {
    return invalid_argument("header must begin with {, is " + excerpt(Json(json.substr(0, 20))));
  }
  GIMBAL_ASSIGN_OR_RETURN(const Json object, parse_json(json, {.max_depth = kHeaderDepth}));
  SafetensorsHeader header;
  header.data_offset = kLengthBytes + json.size();
  header.tensors.reserve(object.size());
  for (const auto& [name, value] : object.items()) {
    if (name == "__metadata__") {
      GIMBAL_ASSIGN_OR_RETURN(header.metadata, read_metadata(value));
      continue;
    }
    GIMBAL_ASSIGN_OR_RETURN(auto tensor, read_tensor(name, value, header.data_offset, file_size));
    header.tensors.push_back(std::move(tensor));
  }
  // An empty tensor stands before the one that begins at the same byte.
  std::ranges::sort(header.tensors, {}, [](const TensorEntry& tensor) {
    return std::pair(tensor.offset, tensor.bytes);
  });
  GIMBAL_RETURN_IF_ERROR(check_coverage(header, file_size));
  return header;
}

Result<SafetensorsHeader> parse_safetensors(std::span<const std::byte> file) {
  if (file.size() < kLengthBytes) {
    return invalid_argument(
        fmt::format("a safetensors file has at least 8 bytes, this one {}", file.size()));
  }
  GIMBAL_ASSIGN_OR_RETURN(const std::uint64_t length,
                          parse_header_length(file.first<kLengthBytes>(), file.size()));
  const auto json = file.subspan(kLengthBytes, length);
  return parse_header({reinterpret_cast<const char*>(json.data()), json.size()}, file.size());
}

SafetensorsFile::SafetensorsFile(FileHandle file, SafetensorsHeader header)
    : file_(std::move(file)), header_(std::move(header)) {}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  GIMBAL_ASSIGN_OR_RETURN(FileHandle file, FileHandle::open_to_read(path));
  const auto within_path = [&path](const auto& result) { return result.error().within(path); };
  std::array<std::byte, kLengthBytes> prefix{};
  if (file.size() < prefix.size()) {
    return within_path(parse_safetensors(std::span(prefix).first(file.size())));
  }
  GIMBAL_RETURN_IF_ERROR(file.read_at(0, prefix));
  const auto length = parse_header_length(prefix, file.size());
  if (!length.ok()) return within_path(length);
  std::string json(*length, '\0');
  GIMBAL_RETURN_IF_ERROR(file.read_at(kLengthBytes, std::as_writable_bytes(std::span(json))));
  auto header = parse_header(json, file.size());
  if (!header.ok()) return within_path(header);
  return SafetensorsFile(std::move(file), std::move(*header));
}

Result<void> SafetensorsFile::read(const TensorEntry& tensor, std::uint64_t begin,
                                   std::span<std::byte> out) const {
  GIMBAL_CHECK(begin <= tensor.bytes && out.size() <= tensor.bytes - begin, tensor.name);
  const auto done = file_.read_at(tensor.offset + begin, out);
  if (!done.ok()) return done.error().within(shown(tensor.name));
  return {};
}

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace gimbal::checkpoint
