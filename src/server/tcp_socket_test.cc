#include "server/tcp_socket.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

namespace gimbal::server {
namespace {

TEST(TcpSocketTest, UnacknowledgedBytesFallAsThePeerReads) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(listener, any, size), 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  ASSERT_EQ(::getsockname(listener, any, &size), 0);
  const int reader = ::socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(::connect(reader, any, size), 0);
  const int writer = ::accept(listener, nullptr, nullptr);
  ASSERT_GE(writer, 0);
  notice_vanished_peer(writer);
  const std::string bytes(1 << 20, 'x');
  while (::send(writer, bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
  }
  const int full = unacknowledged_bytes(writer);
  EXPECT_GT(full, 0);
  // The reader takes a byte at least, the system tells the writer when it sees fit.
  std::string piece(1 << 16, ' ');
  while (unacknowledged_bytes(writer) >= full) {
    ASSERT_GT(::recv(reader, piece.data(), piece.size(), 0), 0);
  }
  EXPECT_EQ(unacknowledged_bytes(-1), 0);
  for (const int socket : {writer, reader, listener})
    ::close(socket);
}

}  // namespace
}  // namespace gimbal::server
