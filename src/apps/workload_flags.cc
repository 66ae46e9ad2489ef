#include "apps/workload_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <string_view>

#include "base/hash.h"
#include "workload/arrivals.h"
#include "workload/length_shapes.h"
#include "workload/qllm_mix.h"
#include "workload/trace_reader.h"
#include "workload/transforms.h"

namespace gimbal::apps {
namespace {

using workload::Workload;

constexpr std::int64_t kDefaultPrompts = 1000;
constexpr std::string_view kShareGpt = "sharegpt";  // vLLM's name of a trace in that format

// Streams of random numbers that do not depend on each other.
enum Stream : std::uint64_t { kLengthStream = 1, kUserStream, kClassStream, kArrivalStream };

Rng rng_of(const WorkloadFlags& flags, Stream stream) {
  return Rng(hash_combine(flags.seed, stream));
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

std::string dataset_of(const WorkloadFlags& flags) {
  if (flags.dataset_name == kShareGpt) return "trace";
  if (!flags.dataset_name.empty()) return flags.dataset_name;
  if (!flags.dataset_path.empty()) return "trace";
  return flags.lengths.empty() ? "random" : "lengths";
}

Result<Workload> read_dataset(const WorkloadFlags& flags) {
  if (flags.dataset_path.empty()) {
    return invalid_argument(fmt::format("--dataset-name {} needs --dataset-path",
                                        flags.dataset_name.empty() ? "trace" : flags.dataset_name),
                            "dataset_path");
  }
  workload::TraceOptions options{.block_size = flags.block_size};
  if (flags.dataset_name == kShareGpt) options.format = workload::TraceFormat::kShareGpt;
  if (!flags.trace_format.empty()) {
    GIMBAL_ASSIGN_OR_RETURN(options.format, workload::parse_trace_format(flags.trace_format));
  }
  return workload::read_trace(flags.dataset_path, options);
}

Result<Workload> make_lengths(const WorkloadFlags& flags) {
  workload::LengthOptions options{.num_prompts = flags.num_prompts.value_or(kDefaultPrompts),
                                  .equal_total = !flags.exact_count};
  const auto lengths =
      workload::parse_length_name(flags.lengths.empty() ? "average" : flags.lengths);
  if (!lengths.ok()) return lengths.error().within("--lengths");
  options.shape = lengths->shape;
  options.long_first = lengths->long_first;
  const std::string_view range = flags.prompt_range;
  const auto colon = range.find(':');
  const auto low = parse_integer(range.substr(0, colon));
  const auto high =
      colon == std::string_view::npos ? std::nullopt : parse_integer(range.substr(colon + 1));
  if (!low || !high) {
    return invalid_argument("--prompt-range is MIN:MAX, not " + flags.prompt_range, "prompt_range");
  }
  options.min_tokens = *low;
  options.max_tokens = *high;
  GIMBAL_RETURN_IF_ERROR(validate(options));
  Rng rng = rng_of(flags, kLengthStream);
  return workload::generate_lengths(options, rng);
}

Result<Workload> make_random(const WorkloadFlags& flags) {
  workload::RandomLengthsOptions options = flags.random;
  options.num_prompts = flags.num_prompts.value_or(kDefaultPrompts);
  GIMBAL_RETURN_IF_ERROR(validate(options));
  Rng rng = rng_of(flags, kLengthStream);
  return workload::generate_random_lengths(options, rng);
}

Result<Workload> make_multi_turn(const WorkloadFlags& flags) {
  workload::MultiTurnOptions options = flags.conversation;
  options.num_prompts = flags.num_prompts.value_or(kDefaultPrompts);
  if (flags.users > 0) options.users.users = flags.users;
  options.users.topics = flags.topics;
  options.users.sources = flags.pin_users;
  GIMBAL_RETURN_IF_ERROR(validate(options));
  Rng rng = rng_of(flags, kLengthStream);
  return workload::generate_multi_turn(options, rng);
}

Result<Workload> make_qllm(const WorkloadFlags& flags) {
  workload::QllmMixOptions options{.num_prompts = flags.num_prompts.value_or(kDefaultPrompts),
                                   .latency_sensitive_share = flags.ls_share.value_or(0.2),
                                   .prompt_cap = flags.prompt_cap.value_or(1024),
                                   .output_cap = flags.output_cap};
  GIMBAL_RETURN_IF_ERROR(validate(options));
  Rng rng = rng_of(flags, kLengthStream);
  if (flags.dataset_path.empty()) return workload::generate_qllm_mix(options, nullptr, rng);
  GIMBAL_ASSIGN_OR_RETURN(const Workload lengths, read_dataset(flags));
  Workload mix = workload::generate_qllm_mix(options, &lengths, rng);
  mix.has_arrivals = false;
  return mix;
}

Result<Workload> make_trace(const WorkloadFlags& flags) {
  GIMBAL_ASSIGN_OR_RETURN(Workload trace, read_dataset(flags));
  if (flags.skip_prompts) {
    const std::int64_t skipped = *flags.skip_prompts;
    const auto size = static_cast<std::int64_t>(trace.requests.size());
    if (!trace.has_arrivals || skipped < 0 || skipped >= size) {
      return invalid_argument(
          fmt::format("--skip-prompts must leave some of {} requests with arrivals, is {}",
                      trace.has_arrivals ? size : 0, skipped),
          "skip_prompts");
    }
    workload::drop_first(trace, static_cast<std::size_t>(skipped));
  }
  std::optional<std::int64_t> num_prompts = flags.num_prompts;
  if (!num_prompts && flags.dataset_name == kShareGpt) num_prompts = kDefaultPrompts;
  if (!num_prompts) return trace;
  const auto count = static_cast<std::size_t>(*num_prompts);
  if (trace.has_arrivals) {
    workload::keep_first(trace, count);
    return trace;
  }
  Rng rng = rng_of(flags, kLengthStream);
  return workload::sample_requests(trace, count, rng);
}

Result<Workload> make_dataset(const WorkloadFlags& flags) {
  if (flags.num_prompts && *flags.num_prompts < 1) {
    return invalid_argument(
        fmt::format("--num-prompts must be at least 1, is {}", *flags.num_prompts), "num_prompts");
  }
  const std::string name = dataset_of(flags);
  if (flags.skip_prompts && name != "trace")
    return invalid_argument("--skip-prompts is of traces, not of " + name, "skip_prompts");
  if (name == "trace") return make_trace(flags);
  if (name == "lengths") return make_lengths(flags);
  if (name == "multi-turn") return make_multi_turn(flags);
  if (name == "qllm") return make_qllm(flags);
  if (name == "random") return make_random(flags);
  return invalid_argument(
      "--dataset-name is trace, sharegpt, random, lengths, multi-turn or qllm, not " + name,
      "dataset_name");
}

Result<void> set_arrivals(const WorkloadFlags& flags, Workload& requests) {
  workload::ArrivalOptions options;
  GIMBAL_ASSIGN_OR_RETURN(options.rate, flags.rate());
  options.burstiness = flags.burstiness.value_or(1.0);
  GIMBAL_RETURN_IF_ERROR(validate(options, requests.requests.size()));
  if (requests.has_arrivals && !flags.burstiness) {
    if (!options.rate) return {};
    // A trace whose requests all arrive at once has no pattern that could be stretched.
    if (requests.requests.back().arrival > requests.requests.front().arrival) {
      workload::rescale_arrivals(requests, *options.rate);
      return {};
    }
  }
  Rng rng = rng_of(flags, kArrivalStream);
  workload::draw_arrivals(requests, options, rng);
  return {};
}

// Adds options to one group of a command's help.
auto options_of_group(CLI::App& command, const char* group) {
  return [&command, group](const std::string& flag, auto& value, const std::string& help) {
    return command.add_option(flag, value, help)->group(group);
  };
}

void add_common_options(CLI::App& command, WorkloadFlags& flags) {
  const auto workload = options_of_group(command, "Workload");
  workload("--dataset-name", flags.dataset_name,
           "trace, sharegpt (a trace, of which 1000 are drawn by default), random, lengths, "
           "multi-turn or qllm; default: trace with --dataset-path, lengths with --lengths, else "
           "random");
  workload("--dataset-path,--trace", flags.dataset_path,
           "a trace; qllm: a ShareGPT trace for its lengths");
  workload("--trace-format", flags.trace_format,
           "mooncake, bailian, azure, burstgpt, sharegpt-lengths, sharegpt or gimbal; default: "
           "recognised");
  workload("--block-size", flags.block_size, "tokens of a block that a hash_id names");
  workload("--num-prompts", flags.num_prompts,
           "requests; default: the whole trace, 1000 of a generator");
  workload("--skip-prompts", flags.skip_prompts,
           "requests of a trace's beginning that are left out; the rest arrives from 0 on");
  workload("--seed", flags.seed, "of everything that is random")->capture_default_str();
  workload("--request-rate", flags.request_rate,
           "requests a second; the last of N arrives at N/rate. inf: all at once, or a trace's own "
           "times")
      ->capture_default_str();
  workload(
      "--burstiness", flags.burstiness,
      "shape of the gamma law of gaps, 1: Poisson; given with a trace, its times are replaced");
  workload("--scale-lengths", flags.scale_lengths, "multiply all lengths, after the caps")
      ->capture_default_str();
  workload("--ls-share", flags.ls_share,
           "share of latency-sensitive requests, the others best-effort; qllm: 0.2");
  workload("--prompt-cap", flags.prompt_cap,
           "longest prompt before --scale-lengths, longer ones are cut; qllm: 1024");
  workload("--output-cap", flags.output_cap, "longest output before --scale-lengths");
  workload("--users", flags.users, "users whom requests come from; multi-turn: 64");
  workload("--topics", flags.topics, "topics that users write about, each with its own tokens");
  workload("--pin-users", flags.pin_users, "engines that users are fixed to");
}

void add_length_options(CLI::App& command, WorkloadFlags& flags) {
  const char* const kGroup = "--dataset-name random and lengths";
  const auto spread = options_of_group(command, kGroup);
  spread("--random-input-len,--input-len", flags.random.input_len, "prompt tokens")
      ->capture_default_str();
  spread("--random-output-len,--output-len", flags.random.output_len, "output tokens")
      ->capture_default_str();
  spread("--random-range-ratio", flags.random.range_ratio,
         "lengths are uniform within ± this share")
      ->capture_default_str();
  spread("--random-sigma", flags.random.sigma,
         "above 0: lengths are log-normal with those means, and this deviation of their logarithm")
      ->capture_default_str();
  spread("--random-prefix-len", flags.random.prefix_len, "tokens that all prompts begin with")
      ->capture_default_str();
  spread("--lengths", flags.lengths, workload::length_names_text());
  spread("--prompt-range", flags.prompt_range, "shortest and longest prompt")
      ->capture_default_str();
  command
      .add_flag("--exact-count", flags.exact_count,
                "of --lengths: exactly --num-prompts requests, instead of as many prompt tokens as "
                "that many of the middle length have")
      ->group(kGroup);
}

void add_conversation_options(CLI::App& command, WorkloadFlags& flags) {
  const auto turns = options_of_group(command, "--dataset-name multi-turn");
  turns("--turns", flags.conversation.mean_turns, "mean turns of a conversation")
      ->capture_default_str();
  turns("--system-prompts", flags.conversation.system_prompts, "different system prompts")
      ->capture_default_str();
  turns("--system-tokens", flags.conversation.system_tokens, "tokens of one")
      ->capture_default_str();
  turns("--message-tokens", flags.conversation.mean_message_tokens, "mean tokens of a message")
      ->capture_default_str();
  turns("--answer-tokens", flags.conversation.mean_answer_tokens, "mean tokens of an answer")
      ->capture_default_str();
  turns("--think-seconds", flags.conversation.mean_think_seconds,
        "mean time between a user's turns")
      ->capture_default_str();
  turns("--pause-seconds", flags.conversation.mean_pause_seconds, "mean time between conversations")
      ->capture_default_str();
  turns("--return-probability", flags.conversation.return_probability,
        "a user takes up the last conversation again")
      ->capture_default_str();
  turns("--max-conversation-tokens", flags.conversation.max_prompt_tokens, "longest prompt")
      ->capture_default_str();
}

}  // namespace

Result<std::optional<double>> WorkloadFlags::rate() const {
  if (request_rate == "inf") return std::optional<double>{};
  double value = 0.0;
  const char* const last = request_rate.data() + request_rate.size();
  const auto [end, error] = std::from_chars(request_rate.data(), last, value);
  if (error != std::errc() || end != last) {
    return invalid_argument(
        "--request-rate is a number of requests a second or inf, not " + request_rate,
        "request_rate");
  }
  return std::optional(value);
}

Result<Workload> make_workload(const WorkloadFlags& flags) {
  GIMBAL_ASSIGN_OR_RETURN(Workload requests, make_dataset(flags));
  if (flags.prompt_cap.value_or(1) < 1 || flags.output_cap.value_or(1) < 1) {
    return invalid_argument("--prompt-cap and --output-cap must be at least 1");
  }
  if (!(flags.scale_lengths > 0.0 && flags.scale_lengths <= 1000.0)) {
    return invalid_argument(
        fmt::format("--scale-lengths must be above 0 and at most 1000, is {}", flags.scale_lengths),
        "scale_lengths");
  }
  const std::string name = dataset_of(flags);
  workload::cap_lengths(requests, flags.prompt_cap, flags.output_cap);
  if (name != "multi-turn") {
    Rng rng = rng_of(flags, kUserStream);
    GIMBAL_RETURN_IF_ERROR(workload::assign_users(
        requests, {.users = flags.users, .topics = flags.topics, .sources = flags.pin_users}, rng));
  }
  if (flags.ls_share && name != "qllm") {
    if (!(*flags.ls_share >= 0.0 && *flags.ls_share <= 1.0)) {
      return invalid_argument(fmt::format("--ls-share must be from 0 to 1, is {}", *flags.ls_share),
                              "ls_share");
    }
    Rng rng = rng_of(flags, kClassStream);
    workload::assign_classes(requests, *flags.ls_share, rng);
  }
  GIMBAL_RETURN_IF_ERROR(set_arrivals(flags, requests));
  if (flags.scale_lengths != 1.0) {
    workload::scale_lengths(requests, flags.scale_lengths);
    requests.name += fmt::format(", lengths × {:g}", flags.scale_lengths);
  }
  return requests;
}

void WorkloadFlags::add_to(CLI::App& command) {
  add_common_options(command, *this);
  add_length_options(command, *this);
  add_conversation_options(command, *this);
}

}  // namespace gimbal::apps
