#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <functional>

namespace gimbal::server {

// Notices that the peer of a socket has ended its side, or has reset the connection, while nobody
// reads from the socket and bytes may wait in it. One thread: the executor's.
class CloseWatch final {
 public:
  using Executor = boost::asio::io_context::executor_type;

  // Begins. `gone` is called at most once, never from here: when the peer has gone, and also where
  // the system has no descriptor left to watch with. One that is under way when the watch is
  // destroyed may still come.
  CloseWatch(const Executor& executor, int socket, std::function<void()> gone);
  CloseWatch(const CloseWatch&) = delete;
  CloseWatch& operator=(const CloseWatch&) = delete;

 private:
  // An epoll instance, itself readable once the socket has such an event: Asio does not offer
  // EPOLLRDHUP, and its own waits would wake for the unread bytes.
  boost::asio::posix::basic_stream_descriptor<Executor> events_;
};

}  // namespace gimbal::server
