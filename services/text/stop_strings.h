#pragma once
// Finds stop strings in a text that arrives in pieces. What may still become a stop string is held
// back, so that nothing of one is ever delivered; the result depends on the text alone, not on how
// it was cut. Of several matches the one that ends first counts, and of those the longest. Not a
// tokenizer: a piece is what IncrementalDecoder gave for one token. One object per output stream;
// one thread at a time.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace mirrorsd::text {

inline constexpr size_t kMaxStopStrings = 16;
inline constexpr size_t kMaxStopStringBytes = 256;

// Errors:  InvalidField("stop" or "stop[i]"): too many, empty, too long, not UTF-8
absl::Status ValidateStopStrings(absl::Span<const std::string> stop_strings);

class StopStringMatcher {
 public:
  struct Match {
    size_t stop_index = 0;   // into the stop strings
    size_t begin_bytes = 0;  // of the stop string in the whole text
    size_t end_bytes = 0;    // one past it
  };

  // `stop_strings` pass ValidateStopStrings; none at all is fine.
  explicit StopStringMatcher(std::vector<std::string> stop_strings);

  // Takes the next piece of text and returns what can be delivered now: all of it up to the match,
  // if there is one, else all that cannot be the beginning of one. After a match nothing is
  // delivered.
  std::string Feed(std::string_view text);

  // The text is over: what was held back is ordinary text.
  std::string Flush();

  // Set once a stop string is complete, with the piece that completed it.
  const std::optional<Match>& match() const { return match_; }

 private:
  struct Pattern {
    std::string text;
    std::vector<uint16_t> fallback;  // [k]: longest border of the first k bytes
    uint16_t matched = 0;            // bytes of this stop string that the text ends with
  };

  std::vector<Pattern> patterns_;
  std::string held_;
  size_t seen_bytes_ = 0;
  std::optional<Match> match_;
};

}  // namespace mirrorsd::text
