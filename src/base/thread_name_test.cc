#include "base/thread_name.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <string>
#include <thread>

namespace gimbal {
namespace {

TEST(ThreadName, IsCutToWhatTheSystemKeeps) {
  std::string shown(16, '\0');
  std::thread([&] {
    name_thread("engine number 1 of 2");
    pthread_getname_np(pthread_self(), shown.data(), shown.size());
  }).join();
  EXPECT_STREQ(shown.c_str(), "engine number 1");
}

}  // namespace
}  // namespace gimbal
