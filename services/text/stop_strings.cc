#include "services/text/stop_strings.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/error.h"
#include "services/text/utf8.h"

namespace mirrorsd::text {

absl::Status ValidateStopStrings(absl::Span<const std::string> stop_strings) {
  if (stop_strings.size() > kMaxStopStrings) {
    return InvalidField("stop", absl::StrCat("has ", stop_strings.size(), " strings"),
                        absl::StrCat(kMaxStopStrings, " strings"));
  }
  for (size_t i = 0; i < stop_strings.size(); ++i) {
    const std::string field = absl::StrCat("stop[", i, "]");
    if (stop_strings[i].empty()) return InvalidField(field, "is empty");
    if (stop_strings[i].size() > kMaxStopStringBytes) {
      return InvalidField(field, absl::StrCat("has ", stop_strings[i].size(), " bytes"),
                          absl::StrCat(kMaxStopStringBytes, " bytes"));
    }
    if (!IsValidUtf8(stop_strings[i])) return InvalidField(field, "not UTF-8");
  }
  return absl::OkStatus();
}

// Source:  Knuth, Morris, Pratt, "Fast pattern matching in strings" (1977)
StopStringMatcher::StopStringMatcher(std::vector<std::string> stop_strings) {
  for (std::string& text : stop_strings) {
    CHECK(!text.empty() && text.size() <= kMaxStopStringBytes);
    Pattern pattern;
    pattern.fallback.assign(text.size() + 1, 0);
    for (size_t k = 1; k < text.size(); ++k) {
      uint16_t border = pattern.fallback[k];
      while (border > 0 && text[k] != text[border]) border = pattern.fallback[border];
      pattern.fallback[k + 1] = text[k] == text[border] ? border + 1 : 0;
    }
    pattern.text = std::move(text);
    patterns_.push_back(std::move(pattern));
  }
}

std::string StopStringMatcher::Feed(std::string_view text) {
  if (match_.has_value()) return "";
  size_t num_held = 0;
  for (const char c : text) {
    held_.push_back(c);
    ++seen_bytes_;
    num_held = 0;
    for (size_t i = 0; i < patterns_.size(); ++i) {
      Pattern& pattern = patterns_[i];
      while (pattern.matched > 0 && pattern.text[pattern.matched] != c) {
        pattern.matched = pattern.fallback[pattern.matched];
      }
      if (pattern.text[pattern.matched] == c) ++pattern.matched;
      const size_t length = pattern.text.size();
      if (pattern.matched == length &&
          (!match_.has_value() || length > match_->end_bytes - match_->begin_bytes)) {
        match_ = Match{i, seen_bytes_ - length, seen_bytes_};
      }
      num_held = std::max<size_t>(num_held, pattern.matched);
    }
    if (match_.has_value()) {
      num_held = match_->end_bytes - match_->begin_bytes;
      break;
    }
  }
  if (text.empty()) return "";
  std::string ready = held_.substr(0, held_.size() - num_held);
  held_.erase(0, ready.size());
  if (match_.has_value()) held_.clear();
  return ready;
}

std::string StopStringMatcher::Flush() {
  return match_.has_value() ? "" : std::exchange(held_, "");
}

}  // namespace mirrorsd::text
