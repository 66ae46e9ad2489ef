#include "apps/make_model.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/thread_pool.h"
#include "synthetic/make_model.h"

namespace gimbal::apps {
namespace {

using synthetic::SyntheticOptions;

struct Arguments {
  std::string out_dir;
  std::string preset;
  std::string family;
  std::string rope;
  std::string dtype;
  bool force = false;
  bool head_dim_given = false;
  // What the command line asks to change, in its order.
  std::vector<std::function<void(SyntheticOptions&)>> changes;
};

// Adds options that change one field of SyntheticOptions.
class FieldOptions {
 public:
  FieldOptions(CLI::App& command, std::shared_ptr<Arguments> arguments)
      : command_(command), arguments_(std::move(arguments)) {}

  void group(std::string name) { group_ = std::move(name); }

  // `field` returns a reference to the field.
  template <class Field>
  CLI::Option& value(const std::string& name, Field field, const std::string& help) {
    using T = std::remove_cvref_t<decltype(field(std::declval<SyntheticOptions&>()))>;
    const auto arguments = arguments_;
    CLI::Option* option = command_.add_option_function<T>(
        name,
        [arguments, field](const T& given) {
          arguments->changes.push_back([field, given](SyntheticOptions& o) { field(o) = given; });
        },
        help);
    return *option->group(group_);
  }
  // --name and --no-name.
  template <class Field>
  void flag(const std::string& name, Field field, const std::string& help) {
    const auto arguments = arguments_;
    command_
        .add_flag_function(
            fmt::format("--{0},!--no-{0}", name),
            [arguments, field](std::int64_t count) {
              arguments->changes.push_back(
                  [field, count](SyntheticOptions& o) { field(o) = count > 0; });
            },
            help)
        ->group(group_);
  }

 private:
  CLI::App& command_;
  std::shared_ptr<Arguments> arguments_;
  std::string group_;
};

#define GIMBAL_FIELD(name)            \
  [](SyntheticOptions & o) -> auto& { \
    return o.name;                    \
  }

void add_shape_options(FieldOptions& add) {
  add.group("Shape");
  add.value("--hidden", GIMBAL_FIELD(hidden_size), "width of the residual stream");
  add.value("--layers", GIMBAL_FIELD(layers), "decoder layers");
  add.value("--heads", GIMBAL_FIELD(heads), "attention heads");
  add.value("--kv-heads", GIMBAL_FIELD(kv_heads), "key and value heads");
  add.value("--vocab", GIMBAL_FIELD(vocab_size), "vocabulary size, at least 260");
  add.value("--max-positions", GIMBAL_FIELD(max_positions), "longest context");
  add.value("--intermediate", GIMBAL_FIELD(intermediate_size),
            "width of a dense FFN; of an expert in mixtral and olmoe");
  add.flag("tie-embeddings", GIMBAL_FIELD(tie_embeddings), "use the embeddings as output head");
  add.flag("attention-bias", GIMBAL_FIELD(attention_bias), "biases of the attention projections");
  add.value("--rms-norm-eps", GIMBAL_FIELD(rms_norm_eps), "epsilon of the norms");
  add.value("--sliding-window", GIMBAL_FIELD(sliding_window),
            "attention window in tokens, 0: none");
  add.value("--max-window-layers", GIMBAL_FIELD(max_window_layers),
            "the config's field of qwen2_moe and qwen3");
  add.value("--clip-qkv", GIMBAL_FIELD(clip_qkv), "olmoe: clamp q, k and v, 0: none");
}

void add_expert_options(FieldOptions& add) {
  add.group("Experts");
  add.value("--experts", GIMBAL_FIELD(experts), "experts of a layer");
  add.value("--top-k", GIMBAL_FIELD(experts_per_token), "experts of a token");
  add.value("--moe-intermediate", GIMBAL_FIELD(moe_intermediate_size),
            "width of an expert in qwen2_moe and qwen3_moe");
  add.value("--shared-intermediate", GIMBAL_FIELD(shared_intermediate_size),
            "qwen2_moe: width of the shared expert");
  add.flag("norm-topk", GIMBAL_FIELD(norm_topk), "divide the top-k weights by their sum");
  add.value("--decoder-sparse-step", GIMBAL_FIELD(decoder_sparse_step),
            "every n-th layer has experts (qwen2_moe, qwen3_moe)");
  add.value("--mlp-only-layers", GIMBAL_FIELD(mlp_only_layers),
            "layers without experts, by number (qwen2_moe, qwen3_moe)")
      .delimiter(',');
  add.value("--router-gain", GIMBAL_FIELD(router_gain),
            "deviation of router logits that comes from noise");
  add.value("--routing-skew", GIMBAL_FIELD(routing_skew),
            "popularity of experts: about Zipf with this exponent");
  add.value("--topics", GIMBAL_FIELD(topics), "vocabulary ranges that prefer different experts");
  add.value("--topic-strength", GIMBAL_FIELD(topic_strength),
            "how strongly a topic prefers its experts, as a Zipf exponent");
}

void add_rope_options(CLI::App& command, Arguments& arguments, FieldOptions& add) {
  add.group("Rotary embedding");
  command.add_option("--rope", arguments.rope, "default, linear, llama3 or yarn")
      ->group("Rotary embedding");
  add.value("--rope-theta", GIMBAL_FIELD(rope.theta), "base wavelength");
  add.value("--rope-factor", GIMBAL_FIELD(rope.factor), "linear, llama3, yarn: stretch");
  add.value("--rope-original-max-positions", GIMBAL_FIELD(rope.original_max_positions),
            "llama3, yarn: context before stretching, 0: max-positions / factor");
  add.value("--rope-low-freq-factor", GIMBAL_FIELD(rope.low_freq_factor), "llama3");
  add.value("--rope-high-freq-factor", GIMBAL_FIELD(rope.high_freq_factor), "llama3");
  add.value("--rope-beta-fast", GIMBAL_FIELD(rope.beta_fast), "yarn");
  add.value("--rope-beta-slow", GIMBAL_FIELD(rope.beta_slow), "yarn");
  add.value("--rope-attention-factor", GIMBAL_FIELD(rope.attention_factor),
            "yarn, 0: from the factor");
}

#undef GIMBAL_FIELD

Result<SyntheticOptions> options_of(const Arguments& arguments) {
  if (!arguments.preset.empty() && !arguments.family.empty()) {
    return invalid_argument("--preset and --family exclude each other", "preset");
  }
  SyntheticOptions options;
  if (arguments.family.empty()) {
    const std::string name = arguments.preset.empty() ? "demo" : arguments.preset;
    GIMBAL_ASSIGN_OR_RETURN(options, synthetic::preset(name));
  } else {
    GIMBAL_ASSIGN_OR_RETURN(const synthetic::Family family,
                            synthetic::parse_family(arguments.family));
    options = synthetic::family_defaults(family);
  }
  for (const auto& change : arguments.changes) {
    change(options);
  }
  const bool derived = !synthetic::traits_of(options.family).free_head_dim;
  if (derived && !arguments.head_dim_given && options.heads > 0) {
    options.head_dim = options.hidden_size / options.heads;
  }
  if (!arguments.rope.empty()) {
    GIMBAL_ASSIGN_OR_RETURN(options.rope.kind, synthetic::parse_rope_kind(arguments.rope));
  }
  if (!arguments.dtype.empty()) {
    auto dtype = tensor::parse_dtype(arguments.dtype);
    if (!dtype.ok()) return dtype.error().within("--dtype");
    options.dtype = *dtype;
  }
  return options;
}

void print_summary(const Arguments& arguments, const SyntheticOptions& options,
                   const synthetic::Summary& summary) {
  fmt::print("{}: {} with {:.2f} M parameters, {:.1f} MB of {} in {} {}, seed {}\n",
             arguments.out_dir, model_config::model_type_of(options.family),
             static_cast<double>(summary.parameters) * 1e-6,
             static_cast<double>(summary.weight_bytes) * 1e-6, tensor::to_string(options.dtype),
             summary.shards, summary.shards == 1 ? "file" : "files", options.seed);
  const auto& routing = summary.routing;
  if (routing.moe_layers == 0) return;
  fmt::print(
      "routing, estimated from {} embeddings: {} mixed tokens use {:.1f} of {} experts a "
      "layer, the busiest expert has {:.2f} x the mean load\n",
      routing.tokens, routing.batch, routing.distinct, options.experts, routing.max_over_mean);
  if (options.topics <= 1) return;
  fmt::print("  within one of the {} topics: {:.1f} experts, {:.2f} x the mean load\n",
             options.topics, routing.distinct_one_topic, routing.max_over_mean_one_topic);
}

Result<void> run(const Arguments& arguments) {
  GIMBAL_ASSIGN_OR_RETURN(const SyntheticOptions options, options_of(arguments));
  GIMBAL_RETURN_IF_ERROR(synthetic::validate(options));
  ThreadPool pool({.pin = false});
  std::optional<Progress> bar;
  GIMBAL_ASSIGN_OR_RETURN(const synthetic::Summary summary,
                          synthetic::make_model(options, arguments.out_dir, arguments.force, pool,
                                                [&bar](std::uint64_t done, std::uint64_t total) {
                                                  if (!bar)
                                                    bar.emplace("writing weights", "bytes", total);
                                                  bar->update(done);
                                                }));
  bar.reset();
  print_summary(arguments, options, summary);
  return {};
}

}  // namespace

void add_make_model(CLI::App& program, int& status) {
  CLI::App* command = program.add_subcommand(
      "make-model", "write a model of random weights, any supported family and shape");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("OUT_DIR", arguments->out_dir, "folder to write, new or empty")->required();
  command->add_option("--preset", arguments->preset,
                      "demo (30 MB, the default), mid (250 MB) or bench (2 GB)");
  command->add_option("--family", arguments->family,
                      "mixtral, qwen2_moe, qwen3_moe, olmoe, llama or qwen3");
  command->add_option("--dtype", arguments->dtype, "bfloat16, float32 or float16");
  command->add_flag("--force", arguments->force, "replace the model that the folder holds");
  FieldOptions add(*command, arguments);
  add.group("Options");
  add.value(
      "--seed", [](SyntheticOptions & o) -> auto& { return o.seed; }, "seed of the weights");
  add.value(
      "--shard-bytes", [](SyntheticOptions & o) -> auto& { return o.shard_bytes; },
      "largest weight file");
  add_shape_options(add);
  command
      ->add_option_function<int>(
          "--head-dim",
          [arguments](const int& given) {
            arguments->head_dim_given = true;
            arguments->changes.push_back([given](SyntheticOptions& o) { o.head_dim = given; });
          },
          "width of a head")
      ->group("Shape");
  add_expert_options(add);
  add_rope_options(*command, *arguments, add);
  command->callback([arguments, &status] {
    const Result<void> done = run(*arguments);
    status = done.ok() ? 0 : 1;
    if (!done.ok()) fmt::print(stderr, "gimbal make-model: {}\n", done.error().message);
  });
}

}  // namespace gimbal::apps
