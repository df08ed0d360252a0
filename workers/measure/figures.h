#pragma once
// Shares with what is known of their error, and what a stream of accepted and rejected tokens would be worth in
// rounds. Pure functions and plain data.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"

namespace mirrorsd::measure {

// A mean over rows, which come in groups (prompts): rows of one text resemble each other, so the error is told by
// how the groups differ. Units: shares, 0 to 1
class Share {
 public:
  // `sum` over `count` rows of one group.
  void AddGroup(double sum, int64_t count);
  void Add(const Share& other);

  int64_t count() const { return count_; }
  double sum() const { return sum_; }
  double value() const { return count_ > 0 ? sum_ / static_cast<double>(count_) : 0.0; }
  // Half of the 95 % interval, by the ratio estimator over groups; 1 where fewer than two groups are there.
  double half_width() const;

 private:
  struct Group {
    double sum;
    int64_t count;
  };
  std::vector<Group> groups_;
  double sum_ = 0.0;
  int64_t count_ = 0;
};

// What serial speculation makes of a stream whose draft matches where `matches` says so: rounds of a window, capped
// at one less than what remains, the first token (of the prefill) being no round's.
struct RoundCount {
  int64_t rounds = 0;
  int64_t drafted = 0;
  int64_t accepted = 0;
  double mean_acceptance_length() const {
    return rounds > 0 ? 1.0 + static_cast<double>(accepted) / static_cast<double>(rounds) : 0.0;
  }
  void Add(const RoundCount& other);
};
// Shapes: matches[T], one of each token of the stream, the first one's not looked at
RoundCount CountRounds(absl::Span<const uint8_t> matches, int32_t window);

// How informative a set of streams is. A stream that goes in circles repeats its runs.
struct StreamVariety {
  int64_t num_tokens = 0;
  int64_t num_distinct_tokens = 0;
  int64_t num_runs = 0;  // of kRunLength tokens
  int64_t num_distinct_runs = 0;
  double share_of_distinct_runs() const {
    return num_runs > 0 ? static_cast<double>(num_distinct_runs) / static_cast<double>(num_runs) : 0.0;
  }
};
inline constexpr int32_t kRunLength = 8;
StreamVariety MeasureVariety(absl::Span<const std::vector<TokenId>> streams);

}  // namespace mirrorsd::measure
