#include "comm/exchange_profile.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace gimbal::comm {
namespace {

constexpr double kMostMicroseconds = 1e6;
constexpr double kMostGigabytes = 1e6;    // a second
constexpr double kLeastGigabytes = 1e-6;  // keeps times finite
constexpr int kMostRanks = 1 << 16;

Result<void> refuse_unread(const JsonObject& object) {
  const std::vector<std::string> unread = object.unread();
  if (unread.empty()) return {};
  return invalid_argument("unknown field: " + object.path_of(unread.front()),
                          object.path_of(unread.front()));
}

Result<void> read_tier(JsonObject& profile, std::string_view name, ExchangeTier& tier) {
  const Json* value = profile.raw(name);
  if (value == nullptr) return {};
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(*value, profile.path_of(name)));
  GIMBAL_RETURN_IF_ERROR(object.read("latency_us", 0.0, kMostMicroseconds, tier.latency_us));
  GIMBAL_RETURN_IF_ERROR(object.read("gb_per_s", 0.0, kMostGigabytes, tier.gb_per_s));
  if (tier.gb_per_s > 0 && tier.gb_per_s < kLeastGigabytes) {
    return object.wrong("gb_per_s", fmt::format("0 (no limit) or at least {}", kLeastGigabytes));
  }
  return refuse_unread(object);
}

}  // namespace

const ExchangeTier& ExchangeProfile::tier(Rank from, Rank to) const {
  GIMBAL_DCHECK(from != to);
  return from.value() / ranks_per_node == to.value() / ranks_per_node ? same_node : other_node;
}

double ExchangeProfile::round_trip_ms(int ranks, double bytes) const {
  GIMBAL_DCHECK(ranks > 1);
  double slowest = 0;  // s
  const auto consider = [&](const ExchangeTier& tier) {
    if (tier.gb_per_s > 0) slowest = std::max(slowest, bytes / (ranks - 1) / (tier.gb_per_s * 1e9));
  };
  if (ranks_per_node > 1) consider(same_node);
  if (ranks > ranks_per_node) consider(other_node);
  return 2 * slowest * 1e3;
}

Result<ExchangeProfile> exchange_profile_from_json(const Json& value) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(value));
  ExchangeProfile profile;
  GIMBAL_RETURN_IF_ERROR(object.read("ranks_per_node", 1, kMostRanks, profile.ranks_per_node));
  GIMBAL_RETURN_IF_ERROR(read_tier(object, "same_node", profile.same_node));
  GIMBAL_RETURN_IF_ERROR(read_tier(object, "other_node", profile.other_node));
  GIMBAL_RETURN_IF_ERROR(refuse_unread(object));
  return profile;
}

Result<ExchangeProfile> read_exchange_profile(const std::string& path) {
  GIMBAL_ASSIGN_OR_RETURN(const Json value, read_json_file(path));
  auto profile = exchange_profile_from_json(value);
  if (!profile.ok()) return profile.error().within(path);
  return profile;
}

TimePoint ExchangeLink::send(TimePoint now, double bytes) {
  const TimePoint start = std::max(now, free_at_);
  const double seconds = tier_.gb_per_s > 0 ? bytes / (tier_.gb_per_s * 1e9) : 0.0;
  free_at_ = start + from_ms(seconds * 1e3);
  return free_at_ + from_ms(tier_.latency_us * 1e-3);
}

}  // namespace gimbal::comm
