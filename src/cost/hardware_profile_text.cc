#include <fmt/format.h>

#include <iterator>

#include "cost/hardware_profile.h"
#include "cost/profile_fields.h"

namespace gimbal::cost {

std::string describe(const HardwareProfile& profile) {
  std::string text = fmt::format("{}: {}\n", profile.name, profile.description);
  auto out = std::back_inserter(text);
  HardwareProfile copy = profile;
  for (const ProfileField& field : fields_of(copy)) {
    std::string path;
    for (const std::string_view part : {field.section, field.subsection, field.name}) {
      if (!part.empty()) path += fmt::format("{}{}", path.empty() ? "" : ".", part);
    }
    fmt::format_to(out, "  {:<44} {:.6g}\n", path, field.value.get());
  }
  if (profile.experts.bytes_per_parameter) {
    fmt::format_to(out, "  {:<44} {:.6g}\n", "experts.bytes_per_parameter",
                   *profile.experts.bytes_per_parameter);
  }
  text += profile.fitted.empty() ? "fitted: nothing\n" : "fitted:\n";
  for (const FitNote& note : profile.fitted) {
    fmt::format_to(out,
                   "  {}, from {}: {} points, error {:.1f} % in the mean, {:.1f} % at most ({})\n",
                   note.what, note.from, note.points, note.mean_error_percent,
                   note.max_error_percent, fmt::join(note.fields, ", "));
  }
  text += profile.assumed.empty() ? "assumed: nothing\n" : "assumed:\n";
  for (const std::string& sentence : profile.assumed)
    fmt::format_to(out, "  {}\n", sentence);
  return text;
}

}  // namespace gimbal::cost
