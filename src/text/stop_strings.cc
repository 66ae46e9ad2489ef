#include "text/stop_strings.h"

#include <algorithm>

#include "base/check.h"

namespace gimbal::text {
namespace {

// The longest prefix of `text` that the stream ends with after `byte`, when it ended with `seen`
// bytes of it before. Requires: seen < text.size().
std::size_t advance(std::string_view text, const std::vector<std::size_t>& borders,
                    std::size_t seen, char byte) {
  while (seen > 0 && text[seen] != byte)
    seen = borders[seen - 1];
  return text[seen] == byte ? seen + 1 : 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops, bool include_stop_in_output)
    : include_(include_stop_in_output) {
  for (std::string& text : stops) {
    GIMBAL_CHECK(!text.empty(), "an empty stop string");
    std::vector<std::size_t> borders(text.size(), 0);
    for (std::size_t i = 1; i < text.size(); ++i) {
      borders[i] = advance(text, borders, borders[i - 1], text[i]);
    }
    stops_.push_back({std::move(text), std::move(borders)});
  }
}

bool StopStrings::push(std::string_view text, std::string& out) {
  GIMBAL_CHECK(!matched_, "text after a stop string");
  if (stops_.empty()) {
    out.append(text);
    return false;
  }
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (std::size_t s = 0; s < stops_.size(); ++s) {
      Stop& stop = stops_[s];
      stop.seen = advance(stop.text, stop.borders, stop.seen, text[i]);
      if (stop.seen == stop.text.size() &&
          (!matched_ || stop.text.size() > stops_[*matched_].text.size())) {
        matched_ = s;
      }
    }
    if (matched_) {
      held_.append(text.substr(0, i + 1));
      if (!include_) held_.resize(held_.size() - stops_[*matched_].text.size());
      out.append(held_);
      held_.clear();
      return true;
    }
  }
  held_.append(text);
  std::size_t keep = 0;
  for (const Stop& stop : stops_)
    keep = std::max(keep, stop.seen);
  out.append(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return false;
}

void StopStrings::finish(std::string& out) {
  GIMBAL_CHECK(!matched_, "text after a stop string");
  out.append(held_);
  held_.clear();
}

}  // namespace gimbal::text
