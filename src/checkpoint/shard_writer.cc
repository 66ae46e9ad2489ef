#include "checkpoint/shard_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/check.h"
#include "base/json.h"
#include "checkpoint/safetensors_dtype.h"

namespace gimbal::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
constexpr const char* kIndexName = "model.safetensors.index.json";

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

Error file_error(const std::string& path, const std::error_code& code) {
  return {ErrorCode::kIo, path + ": " + code.message()};
}

// Weights in `dir`: what a reader of the folder would take for a model's.
Result<std::vector<fs::path>> weights_in(const std::string& dir) {
  std::vector<fs::path> found;
  std::error_code code;
  for (auto it = fs::directory_iterator(dir, code); !code && it != fs::directory_iterator();
       it.increment(code)) {
    if (it->path().extension() == ".safetensors" || it->path().filename() == kIndexName) {
      found.push_back(it->path());
    }
  }
  if (code) return file_error(dir, code);
  std::ranges::sort(found);
  return found;
}

Result<void> clear_folder(const std::string& dir, bool overwrite) {
  std::error_code code;
  fs::create_directories(dir, code);
  if (code) return file_error(dir, code);
  GIMBAL_ASSIGN_OR_RETURN(const auto present, weights_in(dir));
  if (!present.empty() && !overwrite) {
    return invalid_argument("the folder holds weights already: " + present.front().string());
  }
  for (const auto& path : present) {
    if (!fs::remove(path, code) && code) return file_error(path, code);
  }
  return {};
}

Result<void> rename_file(const std::string& from, const std::string& to) {
  std::error_code code;
  fs::rename(from, to, code);
  if (code) return file_error(to, code);
  return {};
}

}  // namespace

std::uint64_t TensorSpec::bytes() const {
  std::uint64_t bytes = tensor::size_of(dtype);
  for (const auto dimension : shape) {
    GIMBAL_CHECK(dimension >= 0 &&
                     !__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(dimension), &bytes),
                 name);
  }
  return bytes;
}

ShardWriter::ShardWriter(std::string dir, std::vector<TensorSpec> tensors)
    : dir_(std::move(dir)), tensors_(std::move(tensors)) {
  buffer_.reserve(kBufferBytes);
}

Result<ShardWriter> ShardWriter::create(const std::string& dir, std::vector<TensorSpec> tensors,
                                        const ShardWriterOptions& options) {
  std::set<std::string_view> names{"__metadata__"};
  for (const auto& spec : tensors)
    GIMBAL_CHECK(names.insert(spec.name).second, spec.name);
  GIMBAL_RETURN_IF_ERROR(clear_folder(dir, options.overwrite));

  ShardWriter writer(dir, std::move(tensors));
  std::uint64_t in_shard = 0;
  for (std::size_t i = 0; i < writer.tensors_.size(); ++i) {
    const std::uint64_t bytes = writer.tensors_[i].bytes();
    if (in_shard > 0 &&
        bytes > options.max_shard_bytes - std::min(in_shard, options.max_shard_bytes)) {
      writer.shard_ends_.push_back(i);
      in_shard = 0;
    }
    in_shard += bytes;
  }
  writer.shard_ends_.push_back(writer.tensors_.size());
  GIMBAL_RETURN_IF_ERROR(writer.open_shard());
  GIMBAL_RETURN_IF_ERROR(writer.skip_finished());
  return writer;
}

ShardWriter::~ShardWriter() {
  std::error_code ignored;
  for (const auto& path : temporary_)
    fs::remove(path, ignored);
}

const TensorSpec* ShardWriter::current() const {
  return tensor_ < tensors_.size() ? &tensors_[tensor_] : nullptr;
}

std::uint64_t ShardWriter::total_bytes() const {
  std::uint64_t total = 0;
  for (const auto& spec : tensors_)
    total += spec.bytes();
  return total;
}

std::string ShardWriter::shard_name(std::size_t shard) const {
  if (shard_ends_.size() == 1) return "model.safetensors";
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shard_ends_.size());
}

std::string ShardWriter::temporary_path(std::size_t shard) const {
  return fmt::format("{}/{}.partial", dir_, shard_name(shard));
}

std::string ShardWriter::header_of(std::size_t shard) const {
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  std::uint64_t offset = 0;
  for (std::size_t i = shard == 0 ? 0 : shard_ends_[shard - 1]; i < shard_ends_[shard]; ++i) {
    const TensorSpec& spec = tensors_[i];
    const std::uint64_t end = offset + spec.bytes();
    header[spec.name] = {{"dtype", stored_type_of(spec.dtype).name},
                         {"shape", spec.shape},
                         {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begins aligned
  std::string out;
  for (int i = 0; i < 8; ++i) {
    out.push_back(static_cast<char>((static_cast<std::uint64_t>(text.size()) >> (8 * i)) & 0xff));
  }
  return out + text;
}

std::string ShardWriter::index() const {
  Json map = Json::object();
  std::size_t shard = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    while (i >= shard_ends_[shard])
      ++shard;
    map[tensors_[i].name] = shard_name(shard);
  }
  const Json index = {{"metadata", {{"total_size", total_bytes()}}},
                      {"weight_map", std::move(map)}};
  return index.dump(2) + "\n";
}

Result<void> ShardWriter::open_shard() {
  temporary_.push_back(temporary_path(shard_));
  GIMBAL_ASSIGN_OR_RETURN(auto file, FileHandle::create(temporary_.back()));
  open_.push_back(std::move(file));
  return open_.back().append(bytes_of(header_of(shard_)));
}

Result<void> ShardWriter::close_shard() {
  GIMBAL_RETURN_IF_ERROR(flush());
  GIMBAL_RETURN_IF_ERROR(open_.back().sync());
  open_.clear();
  ++shard_;
  return {};
}

Result<void> ShardWriter::flush() {
  GIMBAL_RETURN_IF_ERROR(open_.back().append(buffer_));
  buffer_.clear();
  return {};
}

// Moves on over tensors and shards that want no more bytes.
Result<void> ShardWriter::skip_finished() {
  while (true) {
    while (shard_ < shard_ends_.size() && tensor_ == shard_ends_[shard_]) {
      GIMBAL_RETURN_IF_ERROR(close_shard());
      if (shard_ < shard_ends_.size()) GIMBAL_RETURN_IF_ERROR(open_shard());
    }
    if (tensor_ == tensors_.size()) return {};
    missing_ = tensors_[tensor_].bytes();
    if (missing_ > 0) return {};
    ++tensor_;
  }
}

Result<void> ShardWriter::append(std::span<const std::byte> piece) {
  GIMBAL_CHECK(tensor_ < tensors_.size() && piece.size() <= missing_);
  if (piece.empty()) return {};
  if (buffer_.size() + piece.size() > kBufferBytes) GIMBAL_RETURN_IF_ERROR(flush());
  if (piece.size() >= kBufferBytes) {
    GIMBAL_RETURN_IF_ERROR(open_.back().append(piece));
  } else {
    buffer_.insert(buffer_.end(), piece.begin(), piece.end());
  }
  missing_ -= piece.size();
  if (missing_ > 0) return {};
  ++tensor_;
  return skip_finished();
}

Result<void> ShardWriter::finish() {
  GIMBAL_CHECK(current() == nullptr && open_.empty());
  const std::string index_path = dir_ + "/" + kIndexName;
  const bool sharded = shard_ends_.size() > 1;
  if (sharded) {
    temporary_.push_back(index_path + ".partial");
    GIMBAL_ASSIGN_OR_RETURN(auto file, FileHandle::create(temporary_.back()));
    GIMBAL_RETURN_IF_ERROR(file.append(bytes_of(index())));
    GIMBAL_RETURN_IF_ERROR(file.sync());
  }
  for (std::size_t i = 0; i < shard_ends_.size(); ++i) {
    GIMBAL_RETURN_IF_ERROR(rename_file(temporary_path(i), dir_ + "/" + shard_name(i)));
  }
  if (sharded) GIMBAL_RETURN_IF_ERROR(rename_file(index_path + ".partial", index_path));
  temporary_.clear();
  return {};
}

}  // namespace gimbal::checkpoint
