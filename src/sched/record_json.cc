#include "sched/record_json.h"

#include <array>
#include <limits>
#include <string_view>
#include <utility>

#include "base/hash.h"

namespace gimbal::sched {
namespace {

constexpr int kVersion = 3;
constexpr std::int64_t kMaxPoolTokens = std::int64_t{1} << 28;  // a record asks for no more memory
constexpr std::int64_t kInt32Max = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kInt64Max = std::numeric_limits<std::int64_t>::max();
constexpr double kHuge = std::numeric_limits<double>::max();
constexpr double kHugeFloat = std::numeric_limits<float>::max();

// 64-bit words without a sign are written as JSON integers, which JsonObject reads up to 2^63 − 1.
Result<std::uint64_t> word(JsonObject& object, std::string_view name) {
  const Json* value = object.raw(name);
  if (value == nullptr || !value->is_number_unsigned()) {
    return object.wrong(name, "an unsigned integer");
  }
  return value->get<std::uint64_t>();
}

Result<std::vector<TokenId>> tokens_of(JsonObject& object, std::string_view name) {
  const Json* value = object.raw(name);
  if (value == nullptr || !value->is_array()) return object.wrong(name, "an array of tokens");
  std::vector<TokenId> tokens;
  tokens.reserve(value->size());
  for (const Json& token : *value) {
    if (!token.is_number_integer()) return object.wrong(name, "an array of tokens");
    tokens.push_back(token.get<TokenId>());
  }
  return tokens;
}

Json sampling_to_json(const SamplingParams& sampling) {
  Json bias = Json::array();
  for (const auto& [token, value] : sampling.logit_bias)
    bias.push_back({token, value});
  return {{"temperature", sampling.temperature},
          {"top_p", sampling.top_p},
          {"top_k", sampling.top_k},
          {"min_p", sampling.min_p},
          {"presence_penalty", sampling.presence_penalty},
          {"frequency_penalty", sampling.frequency_penalty},
          {"repetition_penalty", sampling.repetition_penalty},
          {"logit_bias", std::move(bias)},
          {"seed", sampling.seed},
          {"choice", sampling.choice},
          {"logprobs", sampling.logprobs},
          {"prompt_logprobs", sampling.prompt_logprobs},
          {"min_tokens", sampling.min_tokens},
          {"ignore_eos", sampling.ignore_eos},
          {"stop_token_ids", sampling.stop_token_ids}};
}

Result<SamplingParams> sampling_from_json(const Json& json) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(json, "sampling"));
  SamplingParams sampling;
  GIMBAL_RETURN_IF_ERROR(object.read("temperature", 0.0, kHugeFloat, sampling.temperature));
  GIMBAL_RETURN_IF_ERROR(object.read("top_p", 0.0, 1.0, sampling.top_p));
  GIMBAL_RETURN_IF_ERROR(object.read("top_k", 0, kInt32Max, sampling.top_k));
  GIMBAL_RETURN_IF_ERROR(object.read("min_p", 0.0, 1.0, sampling.min_p));
  GIMBAL_RETURN_IF_ERROR(
      object.read("presence_penalty", -kHugeFloat, kHugeFloat, sampling.presence_penalty));
  GIMBAL_RETURN_IF_ERROR(
      object.read("frequency_penalty", -kHugeFloat, kHugeFloat, sampling.frequency_penalty));
  GIMBAL_RETURN_IF_ERROR(
      object.read("repetition_penalty", 0.0, kHugeFloat, sampling.repetition_penalty));
  if (const Json* bias = object.raw("logit_bias")) {
    if (!bias->is_array()) return object.wrong("logit_bias", "an array of pairs");
    for (const Json& pair : *bias) {
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_integer() ||
          !pair[1].is_number()) {
        return object.wrong("logit_bias", "an array of pairs");
      }
      sampling.logit_bias.emplace_back(pair[0].get<TokenId>(), pair[1].get<float>());
    }
  }
  GIMBAL_ASSIGN_OR_RETURN(sampling.seed, word(object, "seed"));
  GIMBAL_ASSIGN_OR_RETURN(const std::uint64_t choice, word(object, "choice"));
  sampling.choice = static_cast<std::uint32_t>(choice);
  GIMBAL_RETURN_IF_ERROR(object.read("logprobs", -1, kInt32Max, sampling.logprobs));
  GIMBAL_RETURN_IF_ERROR(object.read("prompt_logprobs", sampling.prompt_logprobs));
  GIMBAL_RETURN_IF_ERROR(object.read("min_tokens", 0, kInt32Max, sampling.min_tokens));
  GIMBAL_RETURN_IF_ERROR(object.read("ignore_eos", sampling.ignore_eos));
  GIMBAL_ASSIGN_OR_RETURN(sampling.stop_token_ids, tokens_of(object, "stop_token_ids"));
  return sampling;
}

}  // namespace

Json request_to_json(const Request& request) {
  Json json{{"id", request.id.value()},
            {"prompt", request.prompt},
            {"max_tokens", request.max_tokens},
            {"sampling", sampling_to_json(request.sampling)},
            {"best_effort", request.request_class == RequestClass::kBestEffort},
            {"priority", request.priority},
            {"cache_salt", request.cache_salt},
            {"user_key", request.user_key},
            {"pinned_engine", request.pinned_engine},
            {"dispatch_sequence", request.dispatch_sequence}};
  if (request.arrival) json["arrival"] = request.arrival->time_since_epoch().count();
  return json;
}

Result<Request> request_from_json(const Json& json) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(json, "submit"));
  Request request;
  GIMBAL_ASSIGN_OR_RETURN(const std::uint64_t id, word(object, "id"));
  request.id = RequestId{id};
  GIMBAL_ASSIGN_OR_RETURN(request.prompt, tokens_of(object, "prompt"));
  GIMBAL_RETURN_IF_ERROR(object.read("max_tokens", -kInt32Max, kInt32Max, request.max_tokens));
  const Json* sampling = object.raw("sampling");
  if (sampling == nullptr) return object.wrong("sampling", "an object");
  GIMBAL_ASSIGN_OR_RETURN(request.sampling, sampling_from_json(*sampling));
  bool best_effort = false;
  GIMBAL_RETURN_IF_ERROR(object.read("best_effort", best_effort));
  request.request_class = best_effort ? RequestClass::kBestEffort : RequestClass::kLatencySensitive;
  GIMBAL_RETURN_IF_ERROR(object.read("priority", -kInt32Max, kInt32Max, request.priority));
  GIMBAL_ASSIGN_OR_RETURN(request.cache_salt, word(object, "cache_salt"));
  GIMBAL_ASSIGN_OR_RETURN(request.user_key, word(object, "user_key"));
  GIMBAL_RETURN_IF_ERROR(object.read("pinned_engine", -1, kInt32Max, request.pinned_engine));
  if (object.has("dispatch_sequence")) {
    GIMBAL_ASSIGN_OR_RETURN(request.dispatch_sequence, word(object, "dispatch_sequence"));
  }
  GIMBAL_ASSIGN_OR_RETURN(const auto arrival, object.integer("arrival", 0, kInt64Max));
  if (arrival) request.arrival = TimePoint{Duration{*arrival}};
  return request;
}

namespace {

// [request, token or null, finish or null]
Json result_to_json(const SequenceResult& result) {
  Json json = Json::array({result.request.value(), nullptr, nullptr});
  if (result.token) json[1] = *result.token;
  if (result.finish) json[2] = static_cast<int>(*result.finish);
  return json;
}

Result<SequenceResult> result_from_json(const Json& json) {
  const auto optional_integer = [](const Json& value) {
    return value.is_null() || value.is_number_integer();
  };
  if (!json.is_array() || json.size() != 3 || !json[0].is_number_unsigned() ||
      !optional_integer(json[1]) || !optional_integer(json[2])) {
    return invalid_argument("a step's result must be [request, token, finish], is " +
                            excerpt(json));
  }
  SequenceResult result;
  result.request = RequestId{json[0].get<std::uint64_t>()};
  if (!json[1].is_null()) result.token = json[1].get<TokenId>();
  if (json[2].is_null()) return result;
  const auto finish = json[2].get<std::int64_t>();
  if (finish < 0 || finish > static_cast<int>(FinishReason::kFailed)) {
    return invalid_argument("a step's result has an unknown finish: " + excerpt(json));
  }
  result.finish = static_cast<FinishReason>(finish);
  return result;
}

struct EventWriter {
  Json operator()(const SubmitGroup& event) const {
    Json requests = Json::array();
    for (const Request& request : event.requests)
      requests.push_back(request_to_json(request));
    return {{"submit", std::move(requests)}};
  }
  Json operator()(const CancelRequest& event) const { return {{"cancel", event.request.value()}}; }
  Json operator()(const SetDraining& event) const { return {{"draining", event.draining}}; }
  Json operator()(const StartStep& event) const {
    Json json{{"start", event.number}, {"members", event.members}};
    if (event.prefill_budget) json["budget"] = *event.prefill_budget;
    if (event.expected_ms > 0) json["expected_ms"] = event.expected_ms;
    return json;
  }
  Json operator()(const StageReached& event) const {
    return {{"reached", event.batch.value()}, {"stage", event.cursor.index()}};
  }
  Json operator()(const StepFinished& event) const {
    Json results = Json::array();
    for (const SequenceResult& result : event.sequences)
      results.push_back(result_to_json(result));
    return {{"finished", event.batch.value()},      {"results", std::move(results)},
            {"attention", event.attention.count()}, {"service", event.service.count()},
            {"wait", event.wait.count()},           {"experts", event.distinct_experts}};
  }
  Json operator()(const StepFailed& event) const {
    return {{"failed", event.batch.value()}, {"message", event.message}};
  }
};

Result<Event> finished_from_json(JsonObject& object) {
  StepFinished event;
  GIMBAL_ASSIGN_OR_RETURN(const std::uint64_t batch, word(object, "finished"));
  event.batch = BatchId{static_cast<BatchId::rep>(batch)};
  const Json* results = object.raw("results");
  if (results == nullptr || !results->is_array()) return object.wrong("results", "an array");
  for (const Json& result : *results) {
    GIMBAL_ASSIGN_OR_RETURN(SequenceResult read, result_from_json(result));
    event.sequences.push_back(std::move(read));
  }
  for (const auto& [name, time] :
       {std::pair{"attention", &event.attention}, std::pair{"service", &event.service},
        std::pair{"wait", &event.wait}}) {
    GIMBAL_ASSIGN_OR_RETURN(const auto count, object.integer(name, 0, kInt64Max));
    *time = Duration{count.value_or(0)};
  }
  GIMBAL_ASSIGN_OR_RETURN(const auto experts, object.integer("experts", 0, kInt64Max));
  event.distinct_experts = experts.value_or(0);
  return Event{std::move(event)};
}

Result<Event> event_from_json(const Json& json) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(json, "event"));
  if (const Json* submit = object.raw("submit")) {
    if (!submit->is_array()) return object.wrong("submit", "an array of requests");
    SubmitGroup group;
    for (const Json& each : *submit) {
      GIMBAL_ASSIGN_OR_RETURN(Request request, request_from_json(each));
      group.requests.push_back(std::move(request));
    }
    return Event{std::move(group)};
  }
  if (object.has("cancel")) {
    GIMBAL_ASSIGN_OR_RETURN(const std::uint64_t id, word(object, "cancel"));
    return Event{CancelRequest{RequestId{id}}};
  }
  if (object.has("draining")) {
    GIMBAL_ASSIGN_OR_RETURN(const auto draining, object.boolean("draining"));
    return Event{SetDraining{draining.value_or(true)}};
  }
  if (object.has("start")) {
    StartStep event;
    GIMBAL_ASSIGN_OR_RETURN(event.number, word(object, "start"));
    if (object.has("members")) {
      GIMBAL_ASSIGN_OR_RETURN(event.members, word(object, "members"));
    }
    GIMBAL_ASSIGN_OR_RETURN(const auto budget, object.integer("budget", 0, kInt32Max));
    if (budget) event.prefill_budget = static_cast<int>(*budget);
    GIMBAL_RETURN_IF_ERROR(object.read("expected_ms", 0.0, kHuge, event.expected_ms));
    return Event{event};
  }
  if (object.has("reached")) {
    GIMBAL_ASSIGN_OR_RETURN(const std::uint64_t batch, word(object, "reached"));
    GIMBAL_ASSIGN_OR_RETURN(const auto stage, object.integer("stage", 0, kInt32Max));
    return Event{StageReached{BatchId{static_cast<BatchId::rep>(batch)},
                              Cursor::from_index(static_cast<int>(stage.value_or(0)))}};
  }
  if (object.has("finished")) return finished_from_json(object);
  if (object.has("failed")) {
    StepFailed event;
    GIMBAL_ASSIGN_OR_RETURN(const std::uint64_t batch, word(object, "failed"));
    event.batch = BatchId{static_cast<BatchId::rep>(batch)};
    GIMBAL_RETURN_IF_ERROR(object.read("message", event.message));
    return Event{std::move(event)};
  }
  return invalid_argument("not an event: " + excerpt(json));
}

}  // namespace

Json header_to_json(const RecordHeader& header) {
  const StepLoopOptions& o = header.options;
  Json json = {{"record", kVersion},
               {"layers", header.layers},
               {"order", o.order},
               {"aging", o.order_options.aging},
               {"aging_auto", o.order_options.aging_auto},
               {"ms_per_priority_level", o.order_options.ms_per_priority_level},
               {"promote_after", o.order_options.promote_after.count()},
               {"promote_after_auto", o.order_options.promote_after_auto},
               {"former", o.former},
               {"max_batch", o.former_options.max_batch},
               {"drain_steps", o.former_options.drain_steps},
               {"prefill_floor", nullptr},
               {"target_itl_ms", o.former_options.target_itl_ms},
               {"best_effort_filler", o.former_options.best_effort_filler},
               {"best_effort_share", o.former_options.best_effort_share},
               {"max_num_seqs", o.max_num_seqs},
               {"max_num_batched_tokens", o.max_num_batched_tokens},
               {"max_model_len", o.max_model_len},
               {"vocab_size", o.vocab_size},
               {"max_waiting_prefill_tokens", nullptr},
               {"kv_pages", o.kv_pages},
               {"page_tokens", o.page_tokens},
               {"asks_before_steps", o.asks_before_steps},
               {"report_order", o.report_order},
               {"max_stage_ms", o.max_stage_ms},
               {"prefix_caching", o.prefix_caching},
               {"model_salt", o.model_salt},
               {"ms_per_token", o.prefill_cost.ms_per_token},
               {"ms_per_square_token", o.prefill_cost.ms_per_square_token},
               {"experts", o.experts.experts},
               {"expert_choices", o.experts.choices_per_row}};
  if (o.former_options.prefill_floor) json["prefill_floor"] = *o.former_options.prefill_floor;
  if (o.max_waiting_prefill_tokens) {
    json["max_waiting_prefill_tokens"] = *o.max_waiting_prefill_tokens;
  }
  return json;
}

Result<RecordHeader> header_from_json(const Json& line) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(line, "header"));
  GIMBAL_ASSIGN_OR_RETURN(const auto version, object.integer("record", kVersion, kVersion));
  if (!version) return object.wrong("record", "the version of a record");
  RecordHeader header;
  StepLoopOptions& o = header.options;
  GIMBAL_RETURN_IF_ERROR(object.read("layers", 1, 100'000, header.layers));
  GIMBAL_RETURN_IF_ERROR(object.read("order", o.order));
  GIMBAL_RETURN_IF_ERROR(object.read("aging", -kHuge, kHuge, o.order_options.aging));
  GIMBAL_RETURN_IF_ERROR(
      object.read("ms_per_priority_level", -kHuge, kHuge, o.order_options.ms_per_priority_level));
  GIMBAL_ASSIGN_OR_RETURN(const auto promote, object.integer("promote_after", 0, kInt64Max));
  if (promote) o.order_options.promote_after = Duration{*promote};
  GIMBAL_RETURN_IF_ERROR(object.read("promote_after_auto", o.order_options.promote_after_auto));
  GIMBAL_RETURN_IF_ERROR(object.read("former", o.former));
  GIMBAL_RETURN_IF_ERROR(
      object.read("best_effort_filler", -kHuge, kHuge, o.former_options.best_effort_filler));
  GIMBAL_RETURN_IF_ERROR(
      object.read("best_effort_share", -kHuge, kHuge, o.former_options.best_effort_share));
  GIMBAL_RETURN_IF_ERROR(object.read("drain_steps", -kHuge, kHuge, o.former_options.drain_steps));
  struct Integer {
    std::string_view name;
    int* value;
  };
  for (const auto& [name, value] :
       {Integer{"max_batch", &o.former_options.max_batch}, Integer{"max_num_seqs", &o.max_num_seqs},
        Integer{"max_num_batched_tokens", &o.max_num_batched_tokens},
        Integer{"max_model_len", &o.max_model_len}, Integer{"vocab_size", &o.vocab_size},
        Integer{"kv_pages", &o.kv_pages}, Integer{"page_tokens", &o.page_tokens}}) {
    GIMBAL_RETURN_IF_ERROR(object.read(name, 1, kInt32Max, *value));
  }
  if (std::int64_t{o.kv_pages} * o.page_tokens > kMaxPoolTokens) {
    return object.wrong("kv_pages", "a pool of at most 2^28 tokens");
  }
  GIMBAL_ASSIGN_OR_RETURN(o.max_waiting_prefill_tokens,
                          object.integer("max_waiting_prefill_tokens", 1, kInt64Max));
  GIMBAL_RETURN_IF_ERROR(object.read("asks_before_steps", o.asks_before_steps));
  GIMBAL_RETURN_IF_ERROR(object.read("report_order", o.report_order));  // absent: no such lines
  GIMBAL_RETURN_IF_ERROR(object.read("max_stage_ms", 0.0, kHuge, o.max_stage_ms));
  GIMBAL_RETURN_IF_ERROR(object.read("prefix_caching", o.prefix_caching));
  GIMBAL_ASSIGN_OR_RETURN(o.model_salt, word(object, "model_salt"));
  GIMBAL_RETURN_IF_ERROR(object.read("aging_auto", o.order_options.aging_auto));
  GIMBAL_ASSIGN_OR_RETURN(const auto floor, object.integer("prefill_floor", 1, kInt32Max));
  if (floor) o.former_options.prefill_floor = static_cast<int>(*floor);
  GIMBAL_RETURN_IF_ERROR(object.read("target_itl_ms", 0.0, kHuge, o.former_options.target_itl_ms));
  GIMBAL_RETURN_IF_ERROR(object.read("experts", 0, kInt32Max, o.experts.experts));
  GIMBAL_RETURN_IF_ERROR(object.read("expert_choices", 0, kInt32Max, o.experts.choices_per_row));
  GIMBAL_RETURN_IF_ERROR(object.read("ms_per_token", 0.0, kHuge, o.prefill_cost.ms_per_token));
  GIMBAL_RETURN_IF_ERROR(
      object.read("ms_per_square_token", 0.0, kHuge, o.prefill_cost.ms_per_square_token));
  return header;
}

Json call_to_json(TimePoint now, std::span<const Event> events) {
  Json list = Json::array();
  for (const Event& event : events)
    list.push_back(std::visit(EventWriter{}, event));
  return {{"now", now.time_since_epoch().count()}, {"events", std::move(list)}};
}

Result<RecordedCall> call_from_json(const Json& line) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(line, "call"));
  GIMBAL_ASSIGN_OR_RETURN(const auto now, object.integer("now", 0, kInt64Max));
  if (!now) return object.wrong("now", "a time in nanoseconds");
  RecordedCall call;
  call.now = TimePoint{Duration{*now}};
  const Json* events = object.raw("events");
  if (events == nullptr || !events->is_array()) return object.wrong("events", "an array");
  for (const Json& json : *events) {
    GIMBAL_ASSIGN_OR_RETURN(Event event, event_from_json(json));
    call.events.push_back(std::move(event));
  }
  return call;
}

Json plan_to_json(const StepPlan& plan) {
  Json rows = Json::array();
  std::uint64_t hash = plan.batch.value();
  for (const SequenceStep& step : plan.sequences) {
    rows.push_back({step.request.value(), step.position, step.rows, step.samples});
    hash = hash_combine(hash, step.request.value());
    hash = hash_combine(hash, static_cast<std::uint64_t>(step.position));
    hash = hash_combine(hash, static_cast<std::uint64_t>(step.rows));
    hash = hash_tokens(step.tokens, hash);
    for (const PageId page : step.pages) {
      hash = hash_combine(hash, static_cast<std::uint64_t>(page.value()));
    }
  }
  return {{"plan", plan.batch.value()}, {"rows", std::move(rows)}, {"hash", hash}};
}

Json order_to_json(const OrderDecision& decision) {
  const policy::OrderedRequest& ordered = decision.ordered;
  Json json{{"order", decision.request.value()},
            {"reason", to_string(decision.reason)},
            {"best_effort", decision.best_effort},
            {"job", {decision.job_tokens, ordered.job_ms}},
            {"cost", {decision.cost.ms_per_token, decision.cost.ms_per_square_token}},
            {"arrival", ordered.arrival.time_since_epoch().count()},
            {"priority", ordered.priority},
            {"key", {decision.key.level, decision.key.value}},
            {"waiting", {decision.waiting_requests, decision.waiting_tokens}},
            {"waited", decision.waited.count()},
            {"median_wait", decision.median_wait.count()}};
  if (ordered.aging) json["aging"] = *ordered.aging;
  return json;
}

}  // namespace gimbal::sched
