#include "interpreter/python.h"

#include <string>

namespace gimbal::interpreter {
namespace {

constexpr std::size_t kMessageBytes = 400;

ErrorCode code_of(const py::error_already_set& exception) {
  if (exception.matches(PyExc_FileNotFoundError)) return ErrorCode::kNotFound;
  if (exception.matches(PyExc_OSError)) return ErrorCode::kIo;
  if (exception.matches(PyExc_MemoryError)) return ErrorCode::kResourceExhausted;
  if (exception.matches(PyExc_ValueError) || exception.matches(PyExc_TypeError)) {
    return ErrorCode::kInvalidArgument;
  }
  return ErrorCode::kInternal;
}

// Cuts at a character's start.
void shorten(std::string& text) {
  if (text.size() <= kMessageBytes) return;
  std::size_t end = kMessageBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
    --end;
  text.resize(end);
  text += "…";
}

}  // namespace

Error to_error(const py::error_already_set& exception) {
  std::string message = "a Python exception without a text";
  try {
    const auto type = exception.type().attr("__name__").cast<std::string>();
    // Lone surrogates, which have no UTF-8, become "?".
    const py::bytes text = py::str(exception.value()).attr("encode")("utf-8", "replace");
    message = type + ": " + std::string(text);
  } catch (const std::exception&) {  // its own __str__ failed
  }
  shorten(message);
  return {code_of(exception), std::move(message)};
}

py::str to_python(std::string_view text) {
  PyObject* string =
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "strict");
  if (string == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(string);
}

}  // namespace gimbal::interpreter
