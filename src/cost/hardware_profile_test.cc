#include "cost/hardware_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/temporary_folder.h"
#include "cost/profile_fields.h"
#include "cost/shipped_files.h"

namespace gimbal::cost {
namespace {

using ::testing::HasSubstr;

Json h200() {
  return Json::parse(*find_shipped(shipped_profile_files(), "h200"));
}

std::string path_of(const ProfileField& field) {
  std::string path;
  for (const std::string_view part : {field.section, field.subsection, field.name})
    if (!part.empty()) path += (path.empty() ? "" : ".") + std::string(part);
  return path;
}

Json::json_pointer pointer_of(const ProfileField& field) {
  std::string path = "/" + path_of(field);
  std::ranges::replace(path, '.', '/');
  return Json::json_pointer(path);
}

TEST(HardwareProfileTest, RooflineByHand) {
  const Roofline roofline{.stream_gb_per_s = 2, .compute_tflop_per_s = 4, .overlap_loss = 0.25};
  EXPECT_DOUBLE_EQ(roofline.ms(4e6, 4e9), 2 + 0.25 * 1);
  EXPECT_DOUBLE_EQ(roofline.ms(2e6, 8e9), 2 + 0.25 * 1);
  EXPECT_DOUBLE_EQ(roofline.ms(0, 8e9), 2);
}

TEST(HardwareProfileTest, EveryShippedProfileIsReadAndWrittenWithoutLoss) {
  EXPECT_FALSE(shipped_profiles().empty());
  for (const std::string_view name : shipped_profiles()) {
    const auto profile = find_profile(std::string(name));
    ASSERT_TRUE(profile.ok()) << name << ": " << profile.error().message;
    EXPECT_EQ(profile->name, name);
    const auto again = profile_from_json(profile_to_json(*profile));
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(*again, *profile);
  }
}

TEST(HardwareProfileTest, EveryShippedProfileSaysWhereItsNumbersComeFrom) {
  for (const std::string_view name : shipped_profiles()) {
    const auto profile = find_profile(std::string(name));
    ASSERT_TRUE(profile.ok());
    EXPECT_FALSE(profile->assumed.empty()) << name;
    const std::string text = describe(*profile);
    for (const FitNote& note : profile->fitted)
      EXPECT_THAT(text, HasSubstr(note.from));
    for (const std::string& sentence : profile->assumed)
      EXPECT_THAT(text, HasSubstr(sentence));
  }
}

TEST(HardwareProfileTest, EveryNumberMustBeThereAndInRange) {
  HardwareProfile profile;
  for (const ProfileField& field : fields_of(profile)) {
    const std::string path = path_of(field);
    for (const Json& value : {Json(), Json("fast"), Json(true), Json::array(),
                              Json(field.high * 2 + 1), Json(field.low - 1)}) {
      Json json = h200();
      json[pointer_of(field)] = value;
      const auto read = profile_from_json(json);
      ASSERT_FALSE(read.ok()) << path << " = " << value;
      EXPECT_EQ(read.error().field, path);
      EXPECT_THAT(read.error().message, HasSubstr(path));
    }
  }
}

TEST(HardwareProfileTest, EveryNumberReachesItsPlace) {
  HardwareProfile names;
  for (const ProfileField& field : fields_of(names)) {
    Json json = h200();
    json[pointer_of(field)] = 0.625;
    auto read = profile_from_json(json);
    ASSERT_TRUE(read.ok()) << read.error().message;
    for (const ProfileField& other : fields_of(*read))
      if (path_of(other) == path_of(field)) {
        EXPECT_EQ(other.value.get(), 0.625);
      }
    EXPECT_EQ(profile_to_json(*read)[pointer_of(field)], 0.625);
  }
}

TEST(HardwareProfileTest, UnknownFieldsAreNamed) {
  for (const char* path : {"/speed", "/attention/speed", "/attention/projections/speed",
                           "/experts/products/speed", "/same_node/speed"}) {
    Json json = h200();
    json[Json::json_pointer(path)] = 1;
    const auto read = profile_from_json(json);
    ASSERT_FALSE(read.ok()) << path;
    EXPECT_THAT(read.error().message, HasSubstr("speed"));
  }
}

// The schema and the reader agree on what must be there: what the one requires the other misses.
void expect_required(const Json& schema, const Json::json_pointer& place) {
  for (const Json& name : schema["required"]) {
    const Json::json_pointer field = place / name.get<std::string>();
    Json json = h200();
    ASSERT_TRUE(json.contains(field)) << field;
    json[field] = nullptr;
    EXPECT_FALSE(profile_from_json(json).ok()) << field;
    const Json& inner = schema["properties"][name.get<std::string>()];
    if (inner.contains("properties")) expect_required(inner, field);
  }
}

TEST(HardwareProfileTest, TheSchemaRequiresWhatTheReaderDoes) {
  const Json schema = profile_schema();
  expect_required(schema, Json::json_pointer());
  EXPECT_EQ(schema["properties"]["experts"]["properties"]["products"]["properties"]["overlap_loss"]
                  ["maximum"],
            1);
  std::size_t numbers = 0;
  HardwareProfile profile;
  for (const ProfileField& field : fields_of(profile)) {
    Json::json_pointer place;
    for (const std::string_view part : {field.section, field.subsection, field.name})
      if (!part.empty()) place = place / "properties" / std::string(part);
    numbers += schema.contains(place) ? 1 : 0;
  }
  EXPECT_EQ(numbers, fields_of(profile).size());
}

TEST(HardwareProfileTest, WrongTextsSectionsAndNotesAreNamed) {
  struct Case {
    const char* path;
    Json value;
    const char* named;
  };
  const Case cases[] = {{"/version", 2, "version"},
                        {"/version", Json(), "version"},
                        {"/name", "", "name"},
                        {"/name", 3, "name"},
                        {"/description", Json(), "description"},
                        {"/attention", Json(), "attention"},
                        {"/attention", 5, "attention"},
                        {"/attention/projections", Json::array(), "attention.projections"},
                        {"/experts/bytes_per_parameter", 0, "experts.bytes_per_parameter"},
                        {"/fitted", 7, "fitted"},
                        {"/fitted", Json::array({1}), "fitted[0]"},
                        {"/fitted", Json::array({Json::object()}), "fitted[0].what"},
                        {"/assumed", "nothing", "assumed"},
                        {"/assumed", Json::array({1}), "assumed"}};
  for (const Case& wrong : cases) {
    Json json = h200();
    json[Json::json_pointer(wrong.path)] = wrong.value;
    const auto read = profile_from_json(json);
    ASSERT_FALSE(read.ok()) << wrong.path << " = " << wrong.value;
    EXPECT_THAT(read.error().message, HasSubstr(wrong.named));
  }
  for (const Json& value : {Json(), Json(3), Json::array(), Json("h200")})
    EXPECT_FALSE(profile_from_json(value).ok());
}

TEST(HardwareProfileTest, FilesAreNamedInErrors) {
  const TemporaryFolder folder;
  const std::string path = folder.path("profile.json");
  Json json = h200();
  json["name"] = "mine";
  std::ofstream(path) << json;
  const auto read = find_profile(path);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->name, "mine");
  json["memory_gb"] = -1;
  std::ofstream(path) << json;
  const auto wrong = find_profile(path);
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.error().message, HasSubstr(path));
  EXPECT_THAT(wrong.error().message, HasSubstr("memory_gb"));
  std::filesystem::remove(path);
  const auto nothing = find_profile(path);
  ASSERT_FALSE(nothing.ok());
  EXPECT_EQ(nothing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(nothing.error().message, HasSubstr("h200"));
}

}  // namespace
}  // namespace gimbal::cost
