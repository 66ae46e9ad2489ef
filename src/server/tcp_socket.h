#pragma once

namespace gimbal::server {

// Makes the system end a connection whose peer has vanished without a word within a minute, even if
// nothing is sent to it.
void notice_vanished_peer(int socket);

// Bytes that the socket has taken and its peer has not acknowledged; falls as the peer reads on.
// 0 where the system does not tell.
[[nodiscard]] int unacknowledged_bytes(int socket);

}  // namespace gimbal::server
