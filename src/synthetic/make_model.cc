#include "synthetic/make_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "checkpoint/shard_writer.h"
#include "synthetic/model_files.h"
#include "synthetic/tensor_recipe.h"
#include "tensor/buffer.h"

namespace gimbal::synthetic {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kPieceBytes = std::size_t{16} << 20;
// Room for tokenizer.json and the like.
constexpr std::uint64_t kSpareBytes = std::uint64_t{64} << 20;

Error system_error(const std::string& context, const std::error_code& code) {
  return io_error(context, code.value());
}

// Refuses a folder that has something in it. True when the folder is not there yet.
Result<bool> check_folder(const std::string& dir, bool overwrite) {
  std::error_code code;
  const fs::file_status status = fs::status(dir, code);
  if (status.type() == fs::file_type::not_found) return true;
  if (code) return system_error(dir, code);
  if (status.type() != fs::file_type::directory) {
    return invalid_argument(fmt::format("the output folder is not a folder: {}", dir), "out-dir");
  }
  const bool empty = fs::is_empty(dir, code);
  if (code) return system_error(dir, code);
  if (!empty && !overwrite) {
    return invalid_argument(
        fmt::format("the output folder is not empty (--force replaces a model in it): {}", dir),
        "out-dir");
  }
  return false;
}

Result<void> check_space(const std::string& dir, std::uint64_t bytes) {
  std::error_code code;
  const fs::space_info space = fs::space(dir, code);
  if (code || space.available >= bytes + kSpareBytes) return {};
  return Error{ErrorCode::kResourceExhausted,
               fmt::format("the model needs {:.2f} GB and the disk has {:.2f} GB free: {}",
                           static_cast<double>(bytes) * 1e-9,
                           static_cast<double>(space.available) * 1e-9, dir)};
}

// Writes beside the file's place, then renames.
Result<void> write_text(const std::string& dir, const TextFile& file) {
  const fs::path path = fs::path(dir) / file.name;
  const fs::path partial = path.string() + ".partial";
  {
    std::ofstream out(partial, std::ios::binary | std::ios::trunc);
    out << file.text;
    out.close();
    if (!out) {
      const int error = errno;
      std::error_code ignored;
      fs::remove(partial, ignored);
      return io_error(path.string(), error);
    }
  }
  std::error_code code;
  fs::rename(partial, path, code);
  return code ? Result<void>(system_error(path.string(), code)) : Result<void>();
}

Result<int> write_weights(const SyntheticOptions& options, const RoutingPlan& routing,
                          const std::vector<TensorRecipe>& recipes, const std::string& dir,
                          bool overwrite, ThreadPool& pool,
                          FunctionRef<void(std::uint64_t, std::uint64_t)> progress) {
  std::vector<checkpoint::TensorSpec> specs;
  for (const auto& recipe : recipes) {
    specs.push_back({recipe.name, options.dtype, recipe.shape});
  }
  GIMBAL_ASSIGN_OR_RETURN(
      checkpoint::ShardWriter writer,
      checkpoint::ShardWriter::create(
          dir, std::move(specs), {.max_shard_bytes = options.shard_bytes, .overwrite = overwrite}));
  const tensor::Buffer buffer(kPieceBytes);
  std::uint64_t done = 0;
  for (const auto& recipe : recipes) {
    const auto row_bytes = static_cast<std::size_t>(recipe.cols()) * size_of(options.dtype);
    const auto rows_per_piece = static_cast<std::int64_t>(kPieceBytes / row_bytes);
    for (std::int64_t row = 0; row < recipe.rows(); row += rows_per_piece) {
      const std::int64_t rows = std::min(rows_per_piece, recipe.rows() - row);
      const auto piece = buffer.as<std::byte>().first(static_cast<std::size_t>(rows) * row_bytes);
      generate_rows(recipe, routing, options.dtype, row, rows, piece, pool);
      GIMBAL_RETURN_IF_ERROR(writer.append(piece));
      done += piece.size();
      progress(done, writer.total_bytes());
    }
  }
  GIMBAL_RETURN_IF_ERROR(writer.finish());
  return writer.shards();
}

}  // namespace

std::int64_t parameter_count(const SyntheticOptions& options) {
  std::int64_t count = 0;
  for (const auto& recipe : tensor_recipes(options)) {
    count += recipe.elements();
  }
  return count;
}

Result<Summary> make_model(const SyntheticOptions& options, const std::string& out_dir,
                           bool overwrite, ThreadPool& pool,
                           FunctionRef<void(std::uint64_t done, std::uint64_t total)> progress) {
  GIMBAL_RETURN_IF_ERROR(validate(options));
  const std::vector<TensorRecipe> recipes = tensor_recipes(options);
  const RoutingPlan routing(options);
  Summary summary;
  for (const auto& recipe : recipes) {
    summary.parameters += recipe.elements();
  }
  summary.tensors = static_cast<std::int64_t>(recipes.size());
  summary.weight_bytes =
      static_cast<std::uint64_t>(summary.parameters) * tensor::size_of(options.dtype);

  GIMBAL_ASSIGN_OR_RETURN(const bool is_new, check_folder(out_dir, overwrite));
  std::error_code code;
  fs::create_directories(out_dir, code);
  if (code) return system_error(out_dir, code);
  const auto write_all = [&]() -> Result<void> {
    GIMBAL_RETURN_IF_ERROR(check_space(out_dir, summary.weight_bytes));
    fs::remove(fs::path(out_dir) / "config.json", code);
    if (code) return system_error(out_dir, code);
    GIMBAL_ASSIGN_OR_RETURN(summary.shards, write_weights(options, routing, recipes, out_dir,
                                                          overwrite, pool, progress));
    std::vector<TextFile> files = text_files(options);
    std::reverse(files.begin(), files.end());  // config.json last
    for (const auto& file : files) {
      GIMBAL_RETURN_IF_ERROR(write_text(out_dir, file));
    }
    return {};
  };
  if (const auto written = write_all(); !written.ok()) {
    if (is_new) fs::remove(out_dir, code);  // only if nothing is in it
    return written.error();
  }
  summary.routing = estimate_routing(options, routing, pool);
  return summary;
}

}  // namespace gimbal::synthetic
