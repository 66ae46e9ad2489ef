#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "loadgen/answer_reader.h"
#include "loadgen/client_stream.h"

namespace gimbal::loadgen {

// One TCP or TLS connection that carries one request at a time, and is opened again when it has to
// be. One thread, the io_context's; owned by the run, which outlives every handler.
class ClientConnection {
 public:
  using Endpoints = ClientStream::Endpoints;
  using Now = std::function<Duration()>;
  using OnAnswer = std::function<void(ClientConnection&)>;

  // `on_answer` is called once a request, when its answer is whole or has failed; it may call send.
  // `target` and its `endpoints` must outlive the connection.
  ClientConnection(boost::asio::io_context& io, const TargetUrl& target, const Endpoints& endpoints,
                   Now now, OnAnswer on_answer);

  // Sends a request for number `index` of the workload. A kept connection that turns out to be
  // closed before any byte of an answer is opened anew, once. Requires: idle.
  void send(std::size_t index, std::string request, AnswerReader reader);
  // Gives up what is in flight, with this reason. on_answer is called.
  void fail(std::string_view reason);
  // Closes without a word; on_answer is not called.
  void close();

  [[nodiscard]] std::size_t index() const { return index_; }
  [[nodiscard]] Duration sent() const { return sent_; }
  // The answer's record, after on_answer.
  [[nodiscard]] report::RequestRecord take_record() { return reader_->take(); }

 private:
  void open();
  void write();
  void read();
  void on_read(const boost::system::error_code& error, std::string_view bytes);
  void finish();

  ClientStream stream_;
  const Endpoints& endpoints_;
  Now now_;
  OnAnswer on_answer_;
  // Handlers of an earlier use of this object carry an older number and do nothing.
  std::uint64_t use_ = 0;
  bool writing_ = false;
  bool reused_ = false;  // the connection had carried a request before
  std::size_t index_ = 0;
  Duration sent_{};
  std::shared_ptr<const std::string> request_;  // owners: this, and its write
  std::optional<AnswerReader> reader_;
};

}  // namespace gimbal::loadgen
