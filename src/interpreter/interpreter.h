#pragma once

#include <memory>
#include <string>

#include "base/result.h"

namespace gimbal::interpreter {

struct InterpreterOptions {
  // The virtual environment whose packages are imported, as tools/setup_python.sh makes it.
  std::string environment;
};

// The embedded CPython of this process: isolated (no PYTHON* variables, no user packages, no
// current folder on the path) and without signal handlers of its own. Between calls nobody holds
// its lock (the GIL), so any thread may take it with a GilGuard.
//
// One per process, for its whole life: extension modules cannot be loaded a second time, so a
// second start, later or at the same time, is a bug. Whoever keeps Python objects refers to the
// Interpreter and must be gone before it. Owned by the program's main function; start and
// destruction happen on the main thread, the rest is thread-safe.
class Interpreter final {
 public:
  // Fails when `environment` is not a virtual environment for the embedded Python's version, or
  // when Python cannot start. Requires: no Interpreter was started in this process before.
  [[nodiscard]] static Result<std::unique_ptr<Interpreter>> start(
      const InterpreterOptions& options);

  // Ends Python. Requires: no other thread holds or waits for the GIL.
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // "3.11.2": the version of the embedded Python.
  [[nodiscard]] const std::string& version() const { return version_; }

 private:
  Interpreter() = default;

  void* main_thread_state_ = nullptr;  // PyThreadState*, to come back to when ending
  std::string version_;
};

// Holds the GIL while it lives; may be nested, on any thread. Waits for other holders.
class GilGuard final {
 public:
  // Requires: an Interpreter, which outlives the guard.
  explicit GilGuard(const Interpreter& interpreter);
  ~GilGuard();
  GilGuard(const GilGuard&) = delete;
  GilGuard& operator=(const GilGuard&) = delete;

 private:
  int state_;
};

}  // namespace gimbal::interpreter
