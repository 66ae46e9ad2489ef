#include "server/close_watch.h"

#include <sys/epoll.h>

#include <boost/asio/post.hpp>
#include <utility>

namespace gimbal::server {
namespace asio = boost::asio;

CloseWatch::CloseWatch(const Executor& executor, int socket, std::function<void()> gone)
    : events_(executor) {
  const int events = ::epoll_create1(EPOLL_CLOEXEC);
  boost::system::error_code failed;
  if (events >= 0) events_.assign(events, failed);
  epoll_event wanted{.events = EPOLLRDHUP, .data = {}};  // errors and resets always come
  if (events < 0 || failed || ::epoll_ctl(events, EPOLL_CTL_ADD, socket, &wanted) != 0) {
    asio::post(executor, std::move(gone));
    return;
  }
  events_.async_wait(asio::posix::descriptor_base::wait_read,
                     [gone = std::move(gone)](const boost::system::error_code& stopped) {
                       if (!stopped) gone();
                     });
}

}  // namespace gimbal::server
