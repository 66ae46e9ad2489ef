#include "policy/expert_map_json.h"

#include <fmt/format.h>

#include <limits>
#include <string>
#include <string_view>

namespace gimbal::policy {
namespace {

constexpr double kNoFraction = 0;  // in an ExpertPlacement while its map is read

Result<void> refuse_unread(const JsonObject& object) {
  const std::vector<std::string> unread = object.unread();
  if (unread.empty()) return {};
  return invalid_argument(fmt::format("unknown field: {}", object.path_of(unread[0])),
                          object.path_of(unread[0]));
}

Result<std::int32_t> required(JsonObject& object, std::string_view name, std::int64_t high) {
  GIMBAL_ASSIGN_OR_RETURN(const auto value, object.integer(name, 0, high));
  if (!value) return object.wrong(name, fmt::format("an integer from 0 to {}", high));
  return static_cast<std::int32_t>(*value);
}

Result<ExpertPlacement> entry_from_json(const Json& json, const ExpertMapShape& shape, int layer,
                                        std::size_t place) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object,
                          JsonObject::of(json, fmt::format("layers[{}][{}]", layer, place)));
  const int experts = shape.experts_of_layer[static_cast<std::size_t>(layer)];
  ExpertPlacement entry{.layer = LayerIndex{layer}, .fraction = kNoFraction};
  GIMBAL_ASSIGN_OR_RETURN(const std::int32_t expert, required(object, "expert", experts - 1));
  entry.expert = ExpertId{expert};
  const auto about_expert = [&](const Error& error) {
    return error.within(fmt::format("layer {}, expert {}", layer, expert));
  };
  const auto rank = required(object, "rank", shape.ranks - 1);
  if (!rank.ok()) return about_expert(rank.error());
  entry.rank = Rank{*rank};
  const auto fraction = object.number("fraction", std::numeric_limits<double>::min(), 1);
  if (!fraction.ok()) {
    return about_expert(object.wrong("fraction", "a number above 0 and at most 1"));
  }
  if (*fraction) entry.fraction = **fraction;
  if (const auto known = refuse_unread(object); !known.ok()) return about_expert(known.error());
  return entry;
}

// Gives the entries of one layer that have no fraction their equal parts.
Result<void> fill_fractions(std::span<ExpertPlacement> entries, int experts) {
  std::vector<int> given(static_cast<std::size_t>(experts));
  std::vector<int> absent(static_cast<std::size_t>(experts));
  for (const ExpertPlacement& entry : entries) {
    const auto expert = static_cast<std::size_t>(entry.expert.value());
    ++(entry.fraction == kNoFraction ? absent : given)[expert];
  }
  for (ExpertPlacement& entry : entries) {
    const auto expert = static_cast<std::size_t>(entry.expert.value());
    if (entry.fraction != kNoFraction) continue;
    if (given[expert] > 0) {
      return invalid_argument(
          fmt::format("layer {}, expert {}: fraction must be in all of its entries or in none, is "
                      "absent for rank {}",
                      entry.layer.value(), entry.expert.value(), entry.rank.value()),
          "fraction");
    }
    entry.fraction = 1.0 / absent[expert];
  }
  return {};
}

Result<void> read_layer(const Json& json, const ExpertMapShape& shape, int layer,
                        std::vector<ExpertPlacement>& entries) {
  const int experts = shape.experts_of_layer[static_cast<std::size_t>(layer)];
  const std::string path = fmt::format("layers[{}]", layer);
  if (!json.is_array()) {
    return invalid_argument(fmt::format("{} must be an array, is {}", path, excerpt(json)), path);
  }
  if (experts == 0 && !json.empty()) {
    return invalid_argument(
        fmt::format("{} must be empty, as the layer has no experts, is {}", path, excerpt(json)),
        path);
  }
  const std::size_t first = entries.size();
  for (std::size_t i = 0; i < json.size(); ++i) {
    GIMBAL_ASSIGN_OR_RETURN(const ExpertPlacement entry, entry_from_json(json[i], shape, layer, i));
    entries.push_back(entry);
  }
  return fill_fractions(std::span(entries).subspan(first), experts);
}

}  // namespace

Result<ExpertMap> expert_map_from_json(const Json& json, const ExpertMapShape& shape) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(json));
  GIMBAL_ASSIGN_OR_RETURN(const auto version, object.integer("version", 0, kMostMapVersion));
  if (!version)
    return object.wrong("version", fmt::format("an integer from 0 to {}", kMostMapVersion));
  const Json* layers = object.raw("layers");
  if (layers == nullptr || !layers->is_array() || layers->size() != shape.experts_of_layer.size()) {
    return object.wrong(
        "layers", fmt::format("an array of the model's {} layers", shape.experts_of_layer.size()));
  }
  GIMBAL_RETURN_IF_ERROR(refuse_unread(object));
  std::vector<ExpertPlacement> entries;
  for (std::size_t layer = 0; layer < layers->size(); ++layer) {
    GIMBAL_RETURN_IF_ERROR(read_layer((*layers)[layer], shape, static_cast<int>(layer), entries));
  }
  return ExpertMap::make(shape, static_cast<std::uint32_t>(*version), entries);
}

Json expert_map_to_json(const ExpertMap& map) {
  Json layers = Json::array();
  for (int layer = 0; layer < map.layers(); ++layer) {
    Json entries = Json::array();
    for (int expert = 0; expert < map.experts(LayerIndex{layer}); ++expert) {
      for (const ExpertShare& share : map.shares(LayerIndex{layer}, ExpertId{expert})) {
        entries.push_back(
            {{"expert", expert}, {"rank", share.rank.value()}, {"fraction", share.fraction}});
      }
    }
    layers.push_back(std::move(entries));
  }
  return {{"version", map.version()}, {"layers", std::move(layers)}};
}

}  // namespace gimbal::policy
