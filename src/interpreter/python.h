#pragma once

// Python's own types, for the sources (never the headers) of modules that call Python.

#include <pybind11/embed.h>

#include <exception>
#include <string_view>
#include <type_traits>

#include "base/result.h"
#include "interpreter/interpreter.h"

namespace gimbal::interpreter {

namespace py = pybind11;

// What a Python exception says, with the code that its type suggests: FileNotFoundError kNotFound,
// other OSErrors kIo, MemoryError kResourceExhausted, ValueError and TypeError kInvalidArgument,
// anything else kInternal. The message is "Type: text", cut to a bounded length.
// Requires: the GIL.
[[nodiscard]] Error to_error(const py::error_already_set& exception);

// `text` as a Python string. Throws Python's UnicodeDecodeError when it is not UTF-8.
// Requires: the GIL.
[[nodiscard]] py::str to_python(std::string_view text);

// Calls `body`, which returns a Result, with the GIL held; what it throws becomes an Error. Python
// objects made inside must not be kept without a plan to release them under the GIL.
template <class Body>
[[nodiscard]] std::invoke_result_t<Body&> with_python(const Interpreter& interpreter, Body&& body) {
  const GilGuard gil(interpreter);
  try {
    return body();
  } catch (const py::error_already_set& exception) {
    return to_error(exception);
  } catch (const std::exception& exception) {  // pybind11's own conversions
    return Error{ErrorCode::kInternal, exception.what()};
  }
}

}  // namespace gimbal::interpreter
