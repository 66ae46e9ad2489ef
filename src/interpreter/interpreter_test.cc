#include "interpreter/interpreter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <string>
#include <thread>
#include <vector>

#include "interpreter/python.h"

namespace gimbal::interpreter {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// One for all tests of the program: Python starts once in a process.
const Interpreter& python() {
  static const auto interpreter = Interpreter::start({GIMBAL_PYTHON_ENV});
  return **interpreter;
}

Result<std::string> evaluate(const char* expression) {
  return with_python(python(), [&]() -> Result<std::string> {
    return std::string(py::str(py::eval(expression)));
  });
}

TEST(Interpreter, RefusesAFolderThatIsNoEnvironment) {
  const auto started = Interpreter::start({"/nonexistent/environment"});
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(started.error().message, HasSubstr("/nonexistent/environment"));
}

TEST(Interpreter, RunsTheEnvironmentsPackagesInIsolation) {
  EXPECT_THAT(python().version(), StartsWith("3.11"));
  const auto file = evaluate("__import__('jinja2').__file__");
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_THAT(*file, StartsWith(GIMBAL_PYTHON_ENV));
  EXPECT_EQ(*evaluate("__import__('sys').flags.isolated"), "1");
  EXPECT_EQ(*evaluate("'' in __import__('sys').path or '.' in __import__('sys').path"), "False");
}

TEST(Interpreter, LeavesTheProgramsSignalHandlersAlone) {
  (void)python();
  for (const int signal : {SIGINT, SIGTERM, SIGPIPE}) {
    struct sigaction action = {};
    ASSERT_EQ(sigaction(signal, nullptr, &action), 0);
    EXPECT_EQ(action.sa_handler, SIG_DFL) << signal;
  }
}

TEST(Interpreter, ExceptionsBecomeErrorsWithTypeAndText) {
  const auto failed = evaluate("int('x')");
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(failed.error().message, StartsWith("ValueError: invalid literal"));
  EXPECT_EQ(evaluate("open('/nonexistent/file')").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(evaluate("[].missing").error().code, ErrorCode::kInternal);
  EXPECT_EQ(evaluate("int('9' * 100000 + chr(0xD800))").error().code, ErrorCode::kInvalidArgument);
  EXPECT_LT(evaluate("{}['long' * 10000]").error().message.size(), 500u);
}

TEST(Interpreter, TextThatIsNotUtf8IsAnError) {
  const auto made = with_python(
      python(), []() -> Result<std::string> { return std::string(to_python("a\xFF")); });
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(made.error().message, StartsWith("UnicodeDecodeError"));
}

TEST(Interpreter, AnyThreadMayTakeTheGilAndNestIt) {
  const Interpreter& interpreter = python();
  std::vector<std::thread> threads;
  int sum = 0;  // guarded by the GIL
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 100; ++n) {
        const GilGuard outer(interpreter);
        const GilGuard inner(interpreter);
        sum += py::eval("1 + 1").cast<int>();
      }
    });
  }
  for (auto& thread : threads)
    thread.join();
  EXPECT_EQ(sum, 800);
}

// A thread's Python state lives for one call, and pybind11 must not remember an earlier one.
TEST(Interpreter, AThreadMayFailAgainAndAgain) {
  (void)python();
  std::thread([] {
    std::vector<std::string> memory;
    for (int n = 0; n < 100; ++n) {
      EXPECT_FALSE(evaluate("int('x')").ok());
      memory.emplace_back(sizeof(PyThreadState), '\xff');  // takes what the last state has left
    }
  }).join();
}

TEST(InterpreterDeathTest, ASecondStartIsABug) {
  EXPECT_DEATH(
      {
        (void)python();
        (void)Interpreter::start({GIMBAL_PYTHON_ENV});
      },
      "started before");
}

}  // namespace
}  // namespace gimbal::interpreter
