#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "loadgen/answer_reader.h"

namespace gimbal::loadgen {

// One TCP connection that carries one request at a time, and is opened again when it has to be. One
// thread, the io_context's; owned by the run, which outlives every handler.
class ClientConnection {
 public:
  using Endpoints = boost::asio::ip::tcp::resolver::results_type;
  using Now = std::function<Duration()>;
  using OnAnswer = std::function<void(ClientConnection&)>;

  // `on_answer` is called once a request, when its answer is whole or has failed; it may call send.
  ClientConnection(boost::asio::io_context& io, const Endpoints& endpoints, Now now,
                   OnAnswer on_answer);

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
  void on_read(const boost::system::error_code& error, std::size_t count);
  void finish();

  boost::asio::ip::tcp::socket socket_;
  const Endpoints& endpoints_;
  Now now_;
  OnAnswer on_answer_;
  // Handlers of an earlier use of this object carry an older number and do nothing.
  std::uint64_t use_ = 0;
  bool writing_ = false;
  bool reused_ = false;  // the connection had carried a request before
  std::size_t index_ = 0;
  Duration sent_{};
  std::string request_;
  std::optional<AnswerReader> reader_;
  std::array<char, 8192> buffer_{};
};

}  // namespace gimbal::loadgen
