#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "base/strong_id.h"

// Structs to JSON and back by one list of their fields: a function `fields(archive, value)` that
// calls archive("name", value.member) for each. Writing gives a field every time; reading takes
// absent ones as what the struct has by default, and refuses wrong types and numbers beyond ±1e15,
// which keeps what is computed from them finite.
namespace gimbal::cluster {

inline constexpr double kMostNumber = 1e15;
inline constexpr std::int64_t kMostNanoseconds = 4'000'000'000'000'000'000;  // sums do not overflow
inline constexpr std::size_t kMostElements = 65'536;  // of an array that is read

class FieldWriter;
class FieldReader;

template <class T>
concept HasFields = requires(FieldWriter& archive, T& value) {
  fields(archive, value);
};

class FieldWriter {
 public:
  template <class T>
  void operator()(const char* name, const T& value) {
    json_[name] = to_json(value);
  }
  [[nodiscard]] Json take() { return std::move(json_); }

  template <class T>
  static Json to_json(const T& value) {
    if constexpr (std::is_enum_v<T>) {
      return static_cast<int>(value);
    } else if constexpr (std::is_same_v<T, TimePoint>) {
      return value.time_since_epoch().count();
    } else if constexpr (std::is_same_v<T, Duration>) {
      return value.count();
    } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
      return value;
    } else if constexpr (requires { value.has_value(); }) {
      return value ? to_json(*value) : Json(nullptr);
    } else if constexpr (requires { value.begin(); }) {
      Json array = Json::array();
      for (const auto& element : value)
        array.push_back(to_json(element));
      return array;
    } else if constexpr (requires { value.value(); }) {  // a strong id
      return value.value();
    } else {
      FieldWriter nested;
      fields(nested, const_cast<T&>(value));  // a list of fields serves both ways
      return nested.take();
    }
  }

 private:
  Json json_ = Json::object();
};

class FieldReader {
 public:
  explicit FieldReader(const Json& json, std::string path = {})
      : json_(json), path_(std::move(path)) {
    if (!json.is_object()) fail({}, "an object", json);
  }

  template <class T>
  void operator()(const char* name, T& value) {
    if (error_ || !json_.contains(name)) return;
    read(name, json_.at(name), value);
  }
  [[nodiscard]] Result<void> result() const {
    if (error_) return *error_;
    return {};
  }

 private:
  template <class T>
  void read(const std::string& name, const Json& json, T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      if (!json.is_boolean()) return fail(name, "true or false", json);
      value = json.get<bool>();
    } else if constexpr (std::is_enum_v<T>) {
      std::int64_t number = 0;
      read(name, json, number);
      if (error_ || number < 0 || number > last_of(value))
        return fail(name, "a known number", json);
      value = static_cast<T>(number);
    } else if constexpr (std::is_floating_point_v<T>) {
      if (!json.is_number()) return fail(name, "a number", json);
      const double number = json.get<double>();
      if (!(number >= -kMostNumber && number <= kMostNumber))
        return fail(name, "a number within 1e15", json);
      value = number;
    } else if constexpr (std::is_integral_v<T>) {
      read_integer(name, json, value);
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (!json.is_string()) return fail(name, "a string", json);
      value = json.get<std::string>();
    } else if constexpr (std::is_same_v<T, TimePoint> || std::is_same_v<T, Duration>) {
      std::int64_t count = 0;
      read_integer(name, json, count);
      if (count < -kMostNanoseconds || count > kMostNanoseconds)
        return fail(name, "nanoseconds within 4e18", json);
      value = T{Duration{count}};
    } else if constexpr (requires { value.has_value(); }) {
      value.reset();
      if (!json.is_null()) read(name, json, value.emplace());
    } else if constexpr (requires { value.push_back(value.front()); }) {
      if (!json.is_array() || json.size() > kMostElements) return fail(name, "an array", json);
      value.clear();
      value.resize(json.size());
      for (std::size_t i = 0; i < json.size() && !error_; ++i)
        read(name + "[" + std::to_string(i) + "]", json[i], value[i]);
    } else if constexpr (requires { value.begin(); }) {
      if (!json.is_array() || json.size() != value.size())
        return fail(name, "an array of " + std::to_string(value.size()), json);
      for (std::size_t i = 0; i < value.size() && !error_; ++i)
        read(name + "[" + std::to_string(i) + "]", json[i], value[i]);
    } else if constexpr (requires { typename T::rep; }) {  // a strong id
      typename T::rep number = 0;
      read_integer(name, json, number);
      value = T{number};
    } else {
      FieldReader nested(json, path_.empty() ? name : path_ + "." + name);
      fields(nested, value);
      if (!error_) error_ = nested.error_;
    }
  }

  template <std::integral T>
  void read_integer(const std::string& name, const Json& json, T& value) {
    const bool fits = json.is_number_unsigned()
                          ? std::in_range<T>(json.get<std::uint64_t>())
                          : json.is_number_integer() && std::in_range<T>(json.get<std::int64_t>());
    if (!fits) return fail(name, "an integer in range", json);
    value = json.get<T>();
  }

  void fail(const std::string& name, const std::string& expected, const Json& json) {
    if (error_) return;
    const std::string place = path_.empty() ? name : name.empty() ? path_ : path_ + "." + name;
    error_ = invalid_argument(
        (place.empty() ? "the record" : place) + " must be " + expected + ", is " + excerpt(json),
        place);
  }

  const Json& json_;
  std::string path_;
  std::optional<Error> error_;
};

template <class T>
Json write_fields(const T& value) {
  return FieldWriter::to_json(value);
}

template <class T>
Result<T> read_fields(const Json& json) {
  T value{};
  FieldReader reader(json);
  if (const auto result = reader.result(); !result.ok()) return result.error();
  fields(reader, value);
  if (const auto result = reader.result(); !result.ok()) return result.error();
  return value;
}

}  // namespace gimbal::cluster
