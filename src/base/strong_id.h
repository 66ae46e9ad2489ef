#pragma once

#include <compare>
#include <cstddef>
#include <functional>

namespace gimbal {

// An integer that names one kind of thing and does not mix with integers that name others.
// `Tag` is an incomplete type of its own for each kind; ids are ordered, hashable and copyable.
template <class Tag, class Rep>
class StrongId {
 public:
  using rep = Rep;

  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep value) : value_(value) {}

  [[nodiscard]] constexpr Rep value() const { return value_; }
  constexpr auto operator<=>(const StrongId&) const = default;

 private:
  Rep value_{};
};

}  // namespace gimbal

template <class Tag, class Rep>
struct std::hash<gimbal::StrongId<Tag, Rep>> {
  std::size_t operator()(gimbal::StrongId<Tag, Rep> id) const noexcept {
    return std::hash<Rep>{}(id.value());
  }
};
