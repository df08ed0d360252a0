#pragma once
// Which requests come when, and how long they are: as many as shall live at once (a closed loop), at a rate,
// or as a trace says. Not a client. Lengths and gaps depend on the seed and the request alone, so that every
// mode is asked the same. Plain data and pure functions, callable from any thread; LoadTrace reads a file.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace mirrorsd::simulate {

inline constexpr int32_t kMaxRequests = 10'000'000;
inline constexpr int32_t kMaxPromptTokens = 262'144;
inline constexpr int32_t kMaxOutputTokens = 262'144;

// A number of tokens: one, any of a range alike, or falling off from 1 with a mean.
struct Lengths {
  enum class Shape : uint8_t { kFixed = 0, kUniform, kGeometric };
  Shape shape = Shape::kFixed;
  int32_t low = 1;   // fixed: the length; geometric: the mean
  int32_t high = 1;  // uniform: the longest

  // `chance` is uniform in [0, 1).
  int32_t At(double chance, int32_t most) const;
};

// "256", "64-512" or "mean:200".
// Errors:  INVALID_FIELD naming `field` and the limit
absl::StatusOr<Lengths> ParseLengths(absl::string_view field, absl::string_view text, int32_t most);

struct Arrival {
  int64_t at_ns = 0;
  int32_t prompt_tokens = 1;
  int32_t output_tokens = 1;
};

struct Workload {
  enum class Kind : uint8_t { kClosed = 0, kRate, kTrace };
  Kind kind = Kind::kClosed;
  int32_t concurrency = 1;  // closed
  double rate = 0;          // requests per second, as a Poisson process
  std::vector<Arrival> trace;
  int32_t requests = 1;     // of a trace: as many as it has
  Lengths prompt;
  Lengths output;

  // The index-th request without its time, or, of a trace, with it.
  Arrival Request(uint64_t seed, int32_t index) const;
  // The time between two arrivals of a rate.
  int64_t GapNs(uint64_t seed, int32_t index) const;
};

// JSON lines {"at_s": 0.5, "prompt_tokens": 120, "output_tokens": 64}, times that never fall.
// Errors:  BAD_FILE naming `path`, the line, the field and the limit
absl::StatusOr<std::vector<Arrival>> ParseTrace(absl::string_view path, absl::string_view text);
absl::StatusOr<std::vector<Arrival>> LoadTrace(const std::string& path);

}  // namespace mirrorsd::simulate
