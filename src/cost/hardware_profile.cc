#include "cost/hardware_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "cost/profile_fields.h"
#include "cost/shipped_files.h"
#include "cost/units.h"

namespace gimbal::cost {
namespace {

constexpr int kVersion = 1;
constexpr std::size_t kMostNotes = 256;

Result<void> refuse_unread(JsonObject& object) {
  const std::vector<std::string> unread = object.unread();
  if (unread.empty()) return {};
  const std::string path = object.path_of(unread.front());
  return invalid_argument(
      fmt::format("unknown field: {}, is {}", path, excerpt(*object.raw(unread.front()))), path);
}

Result<void> read_text(JsonObject& object, std::string_view name, std::string& out) {
  GIMBAL_RETURN_IF_ERROR(object.read(name, out));
  if (!object.has(name) || out.empty()) return object.wrong(name, "a text");
  return {};
}

Result<void> read_texts(JsonObject& object, std::string_view name, std::vector<std::string>& out) {
  const Json* texts = object.raw(name);
  if (texts == nullptr) return {};
  const bool right = texts->is_array() && texts->size() <= kMostNotes &&
                     std::ranges::all_of(*texts, [](const Json& text) { return text.is_string(); });
  if (!right) return object.wrong(name, "an array of texts");
  out = texts->get<std::vector<std::string>>();
  return {};
}

Result<FitNote> read_note(const Json& json, std::size_t place) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject object,
                          JsonObject::of(json, fmt::format("fitted[{}]", place)));
  FitNote note;
  GIMBAL_RETURN_IF_ERROR(read_text(object, "what", note.what));
  GIMBAL_RETURN_IF_ERROR(read_text(object, "from", note.from));
  GIMBAL_RETURN_IF_ERROR(object.read("points", 1, 1 << 30, note.points));
  if (note.points == 0) return object.wrong("points", "a number of measurements");
  GIMBAL_RETURN_IF_ERROR(object.read("mean_error_percent", 0.0, 1e6, note.mean_error_percent));
  GIMBAL_RETURN_IF_ERROR(object.read("max_error_percent", 0.0, 1e6, note.max_error_percent));
  GIMBAL_RETURN_IF_ERROR(read_texts(object, "fields", note.fields));
  GIMBAL_RETURN_IF_ERROR(refuse_unread(object));
  return note;
}

Result<void> read_notes(JsonObject& root, HardwareProfile& profile) {
  if (const Json* notes = root.raw("fitted")) {
    if (!notes->is_array() || notes->size() > kMostNotes)
      return root.wrong("fitted", "an array of objects");
    for (std::size_t i = 0; i < notes->size(); ++i) {
      GIMBAL_ASSIGN_OR_RETURN(FitNote note, read_note((*notes)[i], i));
      profile.fitted.push_back(std::move(note));
    }
  }
  return read_texts(root, "assumed", profile.assumed);
}

// The objects of a profile by their path, each made when its first field is read.
class Sections {
 public:
  explicit Sections(JsonObject& root) : root_(root) {}

  Result<JsonObject*> at(std::string_view section, std::string_view subsection) {
    JsonObject* object = &root_;
    for (const std::string_view name : {section, subsection}) {
      if (name.empty()) break;
      GIMBAL_ASSIGN_OR_RETURN(object, child(*object, name));
    }
    return object;
  }

  [[nodiscard]] Result<void> refuse_unread_anywhere() {
    for (auto& [path, object] : objects_)
      GIMBAL_RETURN_IF_ERROR(refuse_unread(object));
    return refuse_unread(root_);
  }

 private:
  Result<JsonObject*> child(JsonObject& parent, std::string_view name) {
    const std::string path = parent.path_of(name);
    const auto found = objects_.find(path);
    if (found != objects_.end()) return &found->second;
    const Json* value = parent.raw(name);
    if (value == nullptr) return parent.wrong(name, "an object");
    GIMBAL_ASSIGN_OR_RETURN(JsonObject object, JsonObject::of(*value, path));
    return &objects_.emplace(path, std::move(object)).first->second;
  }

  JsonObject& root_;
  std::map<std::string, JsonObject> objects_;
};

Error unknown_profile(const std::string& name) {
  return {ErrorCode::kNotFound,
          fmt::format("profile must be a file or one of {}; is {}",
                      fmt::join(shipped_profiles(), ", "), name),
          "profile"};
}

}  // namespace

double Roofline::ms(double bytes, double flops) const {
  const double reading = bytes / stream_gb_per_s * kMsOfGb;
  const double computing = flops / compute_tflop_per_s * kMsOfTflop;
  return std::max(reading, computing) + overlap_loss * std::min(reading, computing);
}

Result<HardwareProfile> profile_from_json(const Json& value) {
  GIMBAL_ASSIGN_OR_RETURN(JsonObject root, JsonObject::of(value));
  GIMBAL_ASSIGN_OR_RETURN(const auto version, root.integer("version", kVersion, kVersion));
  if (!version) return root.wrong("version", fmt::format("{}", kVersion));
  HardwareProfile profile;
  GIMBAL_RETURN_IF_ERROR(read_text(root, "name", profile.name));
  GIMBAL_RETURN_IF_ERROR(read_text(root, "description", profile.description));
  Sections sections(root);
  for (const ProfileField& field : fields_of(profile)) {
    GIMBAL_ASSIGN_OR_RETURN(JsonObject * object, sections.at(field.section, field.subsection));
    GIMBAL_ASSIGN_OR_RETURN(const auto number, object->number(field.name, field.low, field.high));
    if (!number) {
      return object->wrong(field.name,
                           fmt::format("a number from {} to {}", field.low, field.high));
    }
    field.value.get() = *number;
  }
  GIMBAL_ASSIGN_OR_RETURN(JsonObject * experts, sections.at("experts", ""));
  GIMBAL_ASSIGN_OR_RETURN(profile.experts.bytes_per_parameter,
                          experts->number("bytes_per_parameter", 0.125, 8));
  GIMBAL_RETURN_IF_ERROR(read_notes(root, profile));
  GIMBAL_RETURN_IF_ERROR(sections.refuse_unread_anywhere());
  return profile;
}

Json profile_to_json(const HardwareProfile& profile) {
  Json json = {{"version", kVersion}, {"name", profile.name}, {"description", profile.description}};
  HardwareProfile copy = profile;
  for (const ProfileField& field : fields_of(copy)) {
    Json* object = &json;
    if (!field.section.empty()) object = &(*object)[std::string(field.section)];
    if (!field.subsection.empty()) object = &(*object)[std::string(field.subsection)];
    (*object)[std::string(field.name)] = field.value.get();
  }
  if (profile.experts.bytes_per_parameter)
    json["experts"]["bytes_per_parameter"] = *profile.experts.bytes_per_parameter;
  json["fitted"] = Json::array();
  for (const FitNote& note : profile.fitted) {
    json["fitted"].push_back({{"what", note.what},
                              {"from", note.from},
                              {"points", note.points},
                              {"mean_error_percent", note.mean_error_percent},
                              {"max_error_percent", note.max_error_percent},
                              {"fields", note.fields}});
  }
  json["assumed"] = profile.assumed;
  return json;
}

Result<HardwareProfile> find_profile(const std::string& name_or_path) {
  if (const auto text = find_shipped(shipped_profile_files(), name_or_path)) {
    GIMBAL_ASSIGN_OR_RETURN(const Json json, parse_json(*text));
    return profile_from_json(json);
  }
  std::error_code error;
  if (!std::filesystem::is_regular_file(name_or_path, error)) return unknown_profile(name_or_path);
  GIMBAL_ASSIGN_OR_RETURN(const Json json, read_json_file(name_or_path));
  auto profile = profile_from_json(json);
  if (!profile.ok()) return profile.error().within(name_or_path);
  return profile;
}

std::vector<std::string_view> shipped_profiles() {
  return names_of(shipped_profile_files());
}

}  // namespace gimbal::cost
