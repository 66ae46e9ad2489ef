#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "cluster/engine.h"
#include "server/text_codec.h"
#include "text/vocabulary.h"

namespace gimbal::server {

// A vocabulary of the 256 bytes (token = byte) and a few more.
inline constexpr TokenId kEndToken = 256;    // special: "<end>"
inline constexpr TokenId kBeginToken = 257;  // special: "<begin>"
inline constexpr TokenId kHelloToken = 258;  // "hello"
inline constexpr TokenId kFakeVocabulary = 259;

// One token a byte; a conversation becomes its contents in lines. Texts with THROW make encode
// throw, as a third party might.
class ByteCodec final : public TextCodec {
 public:
  ByteCodec();
  [[nodiscard]] Result<std::vector<TokenId>> encode(std::string_view text,
                                                    bool add_special_tokens) const override;
  [[nodiscard]] Result<std::string> render_chat(std::string_view messages_json,
                                                const text::RenderOptions& options) const override;
  [[nodiscard]] const text::Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  text::Vocabulary vocabulary_;
};

// An engine that a test drives: it notes what is asked of it, and says what it is told to.
// Thread-safe. Waits are bounded by 20 s, after which they return what there is.
class FakeEngine final : public cluster::Engine {
 public:
  explicit FakeEngine(cluster::TokenSink& sink);
  ~FakeEngine() override;

  [[nodiscard]] Result<void> submit(std::vector<sched::Request> group) override;
  void cancel(RequestId request) override;
  [[nodiscard]] cluster::EngineSnapshot snapshot() const override;
  [[nodiscard]] const cluster::EngineLimits& limits() const override { return limits_; }
  [[nodiscard]] bool healthy(std::string* why) const override;

  // From now on each step, on a thread of its own, gives every running request one token of
  // `text`, in turn; a request ends by its max_tokens.
  void run(std::string text);
  void refuse(std::optional<Error> error);
  void break_down(std::string why);
  void set_snapshot(const cluster::EngineSnapshot& snapshot);

  // All requests so far, once there are `count`.
  [[nodiscard]] std::vector<sched::Request> submitted(std::size_t count);
  // The sizes of the groups in which they came.
  [[nodiscard]] std::vector<std::size_t> groups() const;
  // All ids cancelled so far, once there are `count`.
  [[nodiscard]] std::vector<RequestId> cancelled(std::size_t count);
  // Requests that are neither finished nor cancelled, once they are `count`.
  [[nodiscard]] std::size_t wait_running(std::size_t count);

  // One step each.
  void say(RequestId request, TokenId token,
           std::optional<sched::FinishReason> finish = std::nullopt);
  void say(cluster::TokenOutput output);
  void say_bytes(RequestId request, std::string_view text);  // a step a byte
  void finish(RequestId request, sched::FinishReason reason, std::string error = {});

 private:
  struct Running {
    int left = 0;
    std::size_t said = 0;
  };
  void steps();

  cluster::TokenSink& sink_;
  cluster::EngineLimits limits_{.max_model_len = 4096,
                                .vocab_size = kFakeVocabulary,
                                .max_waiting_prefill_tokens = 65536,
                                .engines = 3};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<sched::Request> submitted_;
  std::vector<std::size_t> groups_;
  std::vector<RequestId> cancelled_;
  std::map<RequestId, Running> running_;
  std::optional<Error> refusal_;
  std::string broken_;
  cluster::EngineSnapshot snapshot_;
  std::string text_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace gimbal::server
