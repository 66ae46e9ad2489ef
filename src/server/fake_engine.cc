#include "server/fake_engine.h"

#include <chrono>
#include <stdexcept>
#include <utility>

#include "base/json.h"

namespace gimbal::server {
namespace {

constexpr auto kPatience = std::chrono::minutes(2);

// The character that stands for a byte in byte-level vocabularies, in UTF-8.
std::string byte_level_character(int byte) {
  const auto stands_for_itself = [](int value) {
    return (value >= 33 && value <= 126) || (value >= 161 && value <= 172) ||
           (value >= 174 && value <= 255);
  };
  int code = byte;
  if (!stands_for_itself(byte)) {
    code = 256;
    for (int before = 0; before < byte; ++before)
      code += stands_for_itself(before) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

text::Vocabulary byte_vocabulary() {
  std::vector<text::VocabularyEntry> entries;
  for (int byte = 0; byte < 256; ++byte)
    entries.push_back({.text = byte_level_character(byte)});
  entries.push_back({.text = "<end>", .special = true});
  entries.push_back({.text = "<begin>", .special = true});
  entries.push_back({.text = "hello"});
  return text::Vocabulary::make(entries, R"({"type":"ByteLevel"})").value();
}

}  // namespace

ByteCodec::ByteCodec() : vocabulary_(byte_vocabulary()) {}

Result<std::vector<TokenId>> ByteCodec::encode(std::string_view text,
                                               bool add_special_tokens) const {
  if (text.find("THROW") != std::string_view::npos) throw std::runtime_error("as told to");
  std::vector<TokenId> tokens;
  if (add_special_tokens) tokens.push_back(kBeginToken);
  for (const char byte : text)
    tokens.push_back(static_cast<std::uint8_t>(byte));
  return tokens;
}

Result<std::string> ByteCodec::render_chat(std::string_view messages_json,
                                           const text::RenderOptions& options) const {
  GIMBAL_ASSIGN_OR_RETURN(const Json messages, parse_json(messages_json));
  std::string prompt;
  for (const Json& message : messages) {
    prompt += message.at("role").get<std::string>() + ": ";
    prompt += message.at("content").get<std::string>() + "\n";
  }
  if (prompt.find("RAISE") != std::string::npos) {
    return invalid_argument("the chat template says no", "messages");
  }
  return prompt + options.kwargs_json + (options.add_generation_prompt ? "assistant: " : "");
}

FakeEngine::FakeEngine(cluster::TokenSink& sink) : sink_(sink) {
  snapshot_.pages_total = 100;
  snapshot_.pages_referenced = 25;
}

FakeEngine::~FakeEngine() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<void> FakeEngine::submit(std::vector<sched::Request> group) {
  const std::lock_guard lock(mutex_);
  if (refusal_) return *refusal_;
  groups_.push_back(group.size());
  for (sched::Request& request : group) {
    running_.emplace(request.id, Running{.left = request.max_tokens});
    submitted_.push_back(std::move(request));
  }
  changed_.notify_all();
  return {};
}

void FakeEngine::cancel(RequestId request) {
  const std::lock_guard lock(mutex_);
  running_.erase(request);
  cancelled_.push_back(request);
  changed_.notify_all();
}

cluster::EngineSnapshot FakeEngine::snapshot() const {
  const std::lock_guard lock(mutex_);
  cluster::EngineSnapshot snapshot = snapshot_;
  snapshot.running_requests = static_cast<std::int64_t>(running_.size());
  return snapshot;
}

bool FakeEngine::healthy(std::string* why) const {
  const std::lock_guard lock(mutex_);
  if (why != nullptr) *why = broken_;
  return broken_.empty();
}

void FakeEngine::run(std::string text) {
  text_ = std::move(text);
  thread_ = std::thread([this] { steps(); });
}

void FakeEngine::refuse(std::optional<Error> error) {
  const std::lock_guard lock(mutex_);
  refusal_ = std::move(error);
}

void FakeEngine::break_down(std::string why) {
  const std::lock_guard lock(mutex_);
  broken_ = std::move(why);
}

void FakeEngine::set_snapshot(const cluster::EngineSnapshot& snapshot) {
  const std::lock_guard lock(mutex_);
  snapshot_ = snapshot;
}

std::vector<sched::Request> FakeEngine::submitted(std::size_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kPatience, [&] { return submitted_.size() >= count; });
  return submitted_;
}

std::vector<std::size_t> FakeEngine::groups() const {
  const std::lock_guard lock(mutex_);
  return groups_;
}

std::vector<RequestId> FakeEngine::cancelled(std::size_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kPatience, [&] { return cancelled_.size() >= count; });
  return cancelled_;
}

std::size_t FakeEngine::wait_running(std::size_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kPatience, [&] { return running_.size() == count; });
  return running_.size();
}

void FakeEngine::say(RequestId request, TokenId token, std::optional<sched::FinishReason> finish) {
  cluster::TokenOutput output{.request = request, .token = token, .finish = finish};
  say(std::move(output));
}

void FakeEngine::say(cluster::TokenOutput output) {
  if (output.finish) {
    const std::lock_guard lock(mutex_);
    running_.erase(output.request);
    changed_.notify_all();
  }
  sink_.on_outputs({&output, 1});
}

void FakeEngine::say_bytes(RequestId request, std::string_view text) {
  for (const char byte : text)
    say(request, static_cast<std::uint8_t>(byte));
}

void FakeEngine::finish(RequestId request, sched::FinishReason reason, std::string error) {
  say({.request = request, .finish = reason, .error = std::move(error)});
}

void FakeEngine::steps() {
  std::vector<cluster::TokenOutput> outputs;
  while (true) {
    outputs.clear();
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !running_.empty(); });
      if (stopping_) return;
      for (auto item = running_.begin(); item != running_.end();) {
        auto& [id, state] = *item;
        cluster::TokenOutput output{
            .request = id, .token = static_cast<std::uint8_t>(text_[state.said++ % text_.size()])};
        if (--state.left <= 0) output.finish = sched::FinishReason::kLength;
        item = output.finish ? running_.erase(item) : std::next(item);
        outputs.push_back(std::move(output));
      }
      changed_.notify_all();
    }
    sink_.on_outputs(outputs);
  }
}

}  // namespace gimbal::server
