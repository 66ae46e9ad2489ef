#include "cost/hardware_profile.h"
#include "cost/profile_fields.h"

namespace gimbal::cost {
namespace {

Json object_schema() {
  return {{"type", "object"},
          {"additionalProperties", false},
          {"required", Json::array()},
          {"properties", Json::object()}};
}

Json texts_schema() {
  return {{"type", "array"}, {"items", {{"type", "string"}}}};
}

// The schema of an object's field, which is made, and required, where it is not there yet.
Json& child(Json& object, std::string_view name) {
  if (name.empty()) return object;
  const std::string key(name);
  if (!object["properties"].contains(key)) {
    object["properties"][key] = object_schema();
    object["required"].push_back(key);
  }
  return object["properties"][key];
}

Json note_schema() {
  Json note = object_schema();
  const Json text = {{"type", "string"}, {"minLength", 1}};
  const Json percent = {{"type", "number"}, {"minimum", 0}, {"maximum", 1e6}};
  note["required"] = {"what", "from", "points"};
  note["properties"] = {{"what", text},
                        {"from", text},
                        {"points", {{"type", "integer"}, {"minimum", 1}, {"maximum", 1 << 30}}},
                        {"mean_error_percent", percent},
                        {"max_error_percent", percent},
                        {"fields", texts_schema()}};
  return note;
}

}  // namespace

Json profile_schema() {
  Json schema = object_schema();
  schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  schema["title"] = "Hardware profile";
  const Json text = {{"type", "string"}, {"minLength", 1}};
  schema["required"] = {"version", "name", "description"};
  schema["properties"] = {{"version", {{"const", 1}}},
                          {"name", text},
                          {"description", text},
                          {"fitted", {{"type", "array"}, {"items", note_schema()}}},
                          {"assumed", texts_schema()}};
  HardwareProfile profile;
  for (const ProfileField& field : fields_of(profile)) {
    Json& object = child(child(schema, field.section), field.subsection);
    const std::string name(field.name);
    object["properties"][name] = {
        {"type", "number"}, {"minimum", field.low}, {"maximum", field.high}};
    object["required"].push_back(name);
  }
  child(schema, "experts")["properties"]["bytes_per_parameter"] = {
      {"type", "number"}, {"minimum", 0.125}, {"maximum", 8}};
  return schema;
}

}  // namespace gimbal::cost
