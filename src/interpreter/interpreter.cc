#include "interpreter/interpreter.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>

#include "interpreter/python.h"

namespace gimbal::interpreter {
namespace {

// Python's state is the process's own, whatever object stands for it.
std::atomic<bool> process_has_started{false};

Error start_error(const PyStatus& status) {
  return {ErrorCode::kInternal,
          fmt::format("Python cannot start: {}",
                      status.err_msg != nullptr ? status.err_msg : "no reason")};
}

// Puts the packages of the environment before the standard library's folders. The `site` module
// is not run: it would read files of code from the packages folder, and costs start-up time.
Result<void> add_packages(const Interpreter& interpreter, const std::string& folder) {
  return with_python(interpreter, [&]() -> Result<void> {
    py::module_::import("sys").attr("path").attr("insert")(0, folder);
    return {};
  });
}

}  // namespace

Result<std::unique_ptr<Interpreter>> Interpreter::start(const InterpreterOptions& options) {
  const std::string packages = fmt::format("{}/lib/python{}.{}/site-packages", options.environment,
                                           PY_MAJOR_VERSION, PY_MINOR_VERSION);
  // The environment's own program says where its standard library is.
  const std::string program = options.environment + "/bin/python3";
  if (::access((options.environment + "/pyvenv.cfg").c_str(), R_OK) != 0 ||
      ::access(program.c_str(), X_OK) != 0) {
    return Error{
        ErrorCode::kNotFound,
        "not a Python environment, no pyvenv.cfg or bin/python3 in it: " + options.environment,
        "python-env"};
  }
  if (::access(packages.c_str(), R_OK | X_OK) != 0) {
    return Error{ErrorCode::kNotFound,
                 fmt::format("the Python environment was made for another version than {}.{}: {}",
                             PY_MAJOR_VERSION, PY_MINOR_VERSION, options.environment),
                 "python-env"};
  }
  GIMBAL_CHECK(!process_has_started.exchange(true), "Python was started before in this process");

  PyConfig config;
  PyConfig_InitIsolatedConfig(&config);
  config.site_import = 0;
  config.write_bytecode = 0;
  PyStatus status = PyConfig_SetBytesString(&config, &config.executable, program.c_str());
  if (PyStatus_Exception(status) == 0) status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  if (PyStatus_Exception(status) != 0) return start_error(status);

  // pybind11 remembers the state of the thread that first needs it, for good. This one's lasts;
  // that of another thread goes with its GilGuard, and the thread's next exception would wait for
  // it.
  (void)py::detail::get_internals();

  std::unique_ptr<Interpreter> interpreter(new Interpreter);
  const std::string version = Py_GetVersion();
  interpreter->version_ = version.substr(0, version.find(' '));
  interpreter->main_thread_state_ = PyEval_SaveThread();
  GIMBAL_RETURN_IF_ERROR(add_packages(*interpreter, packages));
  return interpreter;
}

Interpreter::~Interpreter() {
  PyEval_RestoreThread(static_cast<PyThreadState*>(main_thread_state_));
  py::finalize_interpreter();
}

GilGuard::GilGuard(const Interpreter& /*interpreter*/)
    : state_(static_cast<int>(PyGILState_Ensure())) {}

GilGuard::~GilGuard() {
  PyGILState_Release(static_cast<PyGILState_STATE>(state_));
}

}  // namespace gimbal::interpreter
