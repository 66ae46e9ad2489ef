#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"

namespace gimbal {

enum class ErrorCode {
  kInvalidArgument,    // the caller's or operator's input is wrong
  kNotFound,           // a file, model or id that does not exist
  kUnsupported,        // understood, but not something this program does
  kResourceExhausted,  // a bound was reached: try again later
  kUnavailable,        // draining, or a part that is needed has failed
  kCancelled,          // the caller went away
  kIo,                 // the operating system refused
  kInternal,           // a third party failed in a way we did not expect
};

[[nodiscard]] std::string_view to_string(ErrorCode code);

// What went wrong at a boundary (file, checkpoint, JSON, request, peer). `message` is one sentence
// for a person, variable part last; `field` names the input's field at fault, where there is one.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  std::string field = {};

  // The same error with "context: " before the message.
  [[nodiscard]] Error within(std::string_view context) const;
};

[[nodiscard]] inline Error invalid_argument(std::string message, std::string field = {}) {
  return {ErrorCode::kInvalidArgument, std::move(message), std::move(field)};
}
[[nodiscard]] inline Error unsupported(std::string message, std::string field = {}) {
  return {ErrorCode::kUnsupported, std::move(message), std::move(field)};
}
// An error of the operating system: "context: strerror(error_number)".
[[nodiscard]] Error io_error(std::string_view context, int error_number);

// A value, or the error that kept it from being made. Value type; move-only where T is.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // Requires: ok().
  [[nodiscard]] T& value() & { return checked(); }
  [[nodiscard]] const T& value() const& { return const_cast<Result*>(this)->checked(); }
  [[nodiscard]] T&& value() && { return std::move(checked()); }
  T& operator*() & { return checked(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(checked()); }
  T* operator->() { return &checked(); }
  const T* operator->() const { return &value(); }

  // Requires: !ok().
  [[nodiscard]] const Error& error() const {
    GIMBAL_CHECK(!ok());
    return std::get<1>(state_);
  }

 private:
  T& checked() {
    GIMBAL_CHECK(ok(), std::get_if<1>(&state_) ? std::get_if<1>(&state_)->message : std::string());
    return std::get<0>(state_);
  }

  std::variant<T, Error> state_;
};

// Success, or an error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), failed_(true) {}

  [[nodiscard]] bool ok() const { return !failed_; }
  explicit operator bool() const { return ok(); }
  [[nodiscard]] const Error& error() const {
    GIMBAL_CHECK(failed_);
    return error_;
  }

 private:
  Error error_;
  bool failed_ = false;
};

}  // namespace gimbal

#define GIMBAL_CONCAT_INNER(a, b) a##b
#define GIMBAL_CONCAT(a, b) GIMBAL_CONCAT_INNER(a, b)

// Returns the error of `expression` (a Result) from the enclosing function, if it is one.
#define GIMBAL_RETURN_IF_ERROR(expression)                        \
  do {                                                            \
    if (auto gimbal_result = (expression); !gimbal_result.ok()) { \
      return gimbal_result.error();                               \
    }                                                             \
  } while (false)

// Declares or assigns `target` from the value of `expression`, or returns its error.
#define GIMBAL_ASSIGN_OR_RETURN(target, expression) \
  GIMBAL_ASSIGN_OR_RETURN_INNER(GIMBAL_CONCAT(gimbal_result_, __LINE__), target, expression)
#define GIMBAL_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                     \
  if (!result.ok()) return result.error();                        \
  target = std::move(result).value()
