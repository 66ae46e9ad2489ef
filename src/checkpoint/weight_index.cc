#include "checkpoint/weight_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/json.h"

namespace gimbal::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kExtension = ".safetensors";
constexpr std::size_t kMaxFiles = 4096;
constexpr std::size_t kMaxFileNameBytes = 255;
constexpr std::size_t kMaxIndexBytes = 256U << 20;

// A name that cannot lead out of the folder.
bool is_plain_name(std::string_view name) {
  return name.size() <= kMaxFileNameBytes && name.size() > kExtension.size() &&
         name.ends_with(kExtension) && name.front() != '.' &&
         std::ranges::none_of(name, [](char c) {
           return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
         });
}

// The *.safetensors of a folder that has no index, sorted.
Result<std::vector<std::string>> loose_files(const std::string& model_dir) {
  std::vector<std::string> names;
  std::error_code code;
  for (auto it = fs::directory_iterator(model_dir, code); !code && it != fs::directory_iterator();
       it.increment(code)) {
    auto name = it->path().filename().string();
    if (is_plain_name(name)) names.push_back(std::move(name));
    if (names.size() > kMaxFiles) {
      return invalid_argument(
          fmt::format("{}: more than {} safetensors files", model_dir, kMaxFiles));
    }
  }
  if (code) return Error{ErrorCode::kIo, model_dir + ": " + code.message()};
  std::ranges::sort(names);
  return names;
}

struct ShardName {
  std::string_view stem;   // "model" of model-00002-of-00005.safetensors
  std::string_view part;   // "00002"
  std::string_view count;  // "00005"
};

std::optional<ShardName> parse_shard_name(std::string_view name) {
  constexpr std::size_t kDigits = 5;
  constexpr std::string_view kOf = "-of-";
  name.remove_suffix(kExtension.size());
  const auto take_number = [&name]() -> std::string_view {
    if (name.size() < kDigits) return {};
    const auto digits = name.substr(name.size() - kDigits);
    if (!std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; })) return {};
    name.remove_suffix(kDigits);
    return digits;
  };
  const auto count = take_number();
  if (count.empty() || !name.ends_with(kOf)) return std::nullopt;
  name.remove_suffix(kOf.size());
  const auto part = take_number();
  if (part.empty() || !name.ends_with('-')) return std::nullopt;
  return ShardName{name.substr(0, name.size() - 1), part, count};
}

// A folder that is still being copied, or has lost a file, must not pass for a smaller model.
Result<void> check_complete(const std::string& model_dir, const std::vector<std::string>& names) {
  std::map<std::pair<std::string_view, std::string_view>, std::size_t> groups;
  for (const auto& name : names) {
    if (const auto shard = parse_shard_name(name)) ++groups[{shard->stem, shard->count}];
  }
  for (const auto& [group, present] : groups) {
    const auto& [stem, count] = group;
    if (std::stoul(std::string(count)) != present) {
      return invalid_argument(
          fmt::format("{}: {} files {}-*-of-{}{} are there, their names promise {}", model_dir,
                      present, stem, count, kExtension, count));
    }
  }
  return {};
}

}  // namespace

Result<std::map<std::string, std::string>> parse_weight_map(const nlohmann::json& index) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(index));
  const Json* list = object.raw("weight_map");
  if (list == nullptr || !list->is_object() || list->empty()) {
    return object.wrong("weight_map", "an object from tensor names to file names");
  }
  std::map<std::string, std::string> map;
  std::set<std::string> files;
  for (const auto& [name, file] : list->items()) {
    if (!file.is_string() || !is_plain_name(file.get_ref<const std::string&>())) {
      return invalid_argument(
          fmt::format("weight_map must name a *.safetensors file in the same folder, {} is {}",
                      excerpt(Json(name)), excerpt(file)),
          "weight_map");
    }
    files.insert(file.get<std::string>());
    map.emplace(name, file.get<std::string>());
  }
  if (files.size() > kMaxFiles) {
    return invalid_argument(
        fmt::format("weight_map must name at most {} files, names {}", kMaxFiles, files.size()),
        "weight_map");
  }
  return map;
}

Result<WeightIndex> WeightIndex::open(const std::string& model_dir) {
  WeightIndex out;
  std::error_code ignored;
  const std::string index_path = model_dir + "/model.safetensors.index.json";
  const std::string single_path = model_dir + "/model.safetensors";
  if (fs::exists(index_path, ignored)) {
    GIMBAL_ASSIGN_OR_RETURN(const Json index, read_json_file(index_path, kMaxIndexBytes));
    const auto weight_map = parse_weight_map(index);
    if (!weight_map.ok()) return weight_map.error().within(index_path);
    GIMBAL_RETURN_IF_ERROR(out.add_listed(model_dir, *weight_map));
    return out;
  }
  if (fs::exists(single_path, ignored)) {
    GIMBAL_RETURN_IF_ERROR(out.add_whole_file(single_path));
    return out;
  }
  GIMBAL_ASSIGN_OR_RETURN(const auto names, loose_files(model_dir));
  if (names.empty()) {
    return Error{ErrorCode::kNotFound, "no safetensors files in the folder: " + model_dir};
  }
  GIMBAL_RETURN_IF_ERROR(check_complete(model_dir, names));
  for (const auto& name : names) {
    GIMBAL_RETURN_IF_ERROR(out.add_whole_file(fmt::format("{}/{}", model_dir, name)));
  }
  return out;
}

Result<void> WeightIndex::add_whole_file(const std::string& path) {
  GIMBAL_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::open(path));
  const int index = static_cast<int>(files_.size());
  for (const auto& entry : file.header().tensors) {
    const auto [at, fresh] = tensors_.try_emplace(entry.name, TensorInfo{entry, index});
    if (!fresh) {
      return invalid_argument(
          fmt::format("{}: tensor \"{}\" is in {} too", path, entry.name,
                      files_[static_cast<std::size_t>(at->second.file)].path()));
    }
  }
  files_.push_back(std::move(file));
  return {};
}

Result<void> WeightIndex::add_listed(const std::string& model_dir,
                                     const std::map<std::string, std::string>& weight_map) {
  std::map<std::string, std::vector<std::string>> by_file;
  for (const auto& [name, file] : weight_map)
    by_file[file].push_back(name);
  for (const auto& [file_name, names] : by_file) {
    GIMBAL_ASSIGN_OR_RETURN(SafetensorsFile file,
                            SafetensorsFile::open(fmt::format("{}/{}", model_dir, file_name)));
    std::map<std::string_view, const TensorEntry*> held;
    for (const auto& entry : file.header().tensors)
      held.emplace(entry.name, &entry);
    for (const auto& name : names) {
      const auto found = held.find(name);
      if (found == held.end()) {
        return invalid_argument(fmt::format(
            "{}: has no tensor \"{}\", which the index places there", file.path(), name));
      }
      tensors_.emplace(name, TensorInfo{*found->second, static_cast<int>(files_.size())});
    }
    files_.push_back(std::move(file));
  }
  return {};
}

std::uint64_t WeightIndex::total_bytes() const {
  std::uint64_t total = 0;
  for (const auto& [name, tensor] : tensors_)
    total += tensor.entry.bytes;
  return total;
}

const TensorInfo* WeightIndex::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

Result<const TensorInfo*> WeightIndex::require(std::string_view name,
                                               std::span<const std::int64_t> shape) const {
  const TensorInfo* tensor = find(name);
  if (tensor == nullptr) {
    return Error{ErrorCode::kNotFound, fmt::format("the checkpoint has no tensor \"{}\"", name)};
  }
  const TensorEntry& entry = tensor->entry;
  const auto& path = files_[static_cast<std::size_t>(tensor->file)].path();
  if (!std::ranges::equal(entry.shape, shape)) {
    return invalid_argument(fmt::format("{}: tensor \"{}\" must have the shape {}, has {}", path,
                                        name, shape_text(shape), shape_text(entry.shape)));
  }
  if (!entry.type.dtype) {
    return unsupported(fmt::format("{}: tensor \"{}\" must be of type F32, BF16 or F16, is {}",
                                   path, name, entry.type.name));
  }
  return tensor;
}

Result<void> WeightIndex::read(const TensorInfo& tensor, std::uint64_t begin,
                               std::span<std::byte> out) const {
  GIMBAL_CHECK(tensor.file >= 0 && static_cast<std::size_t>(tensor.file) < files_.size());
  return files_[static_cast<std::size_t>(tensor.file)].read(tensor.entry, begin, out);
}

}  // namespace gimbal::checkpoint
