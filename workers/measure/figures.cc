#include "workers/measure/figures.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace mirrorsd::measure {

void Share::AddGroup(double sum, int64_t count) {
  if (count == 0) return;
  groups_.push_back({sum, count});
  sum_ += sum;
  count_ += count;
}

void Share::Add(const Share& other) {
  for (const Group& group : other.groups_) AddGroup(group.sum, group.count);
}

double Share::half_width() const {
  const double n = static_cast<double>(groups_.size());
  if (n < 2) return 1.0;
  const double mean = value();
  double squares = 0.0;
  for (const Group& group : groups_) {
    const double residual = group.sum - mean * static_cast<double>(group.count);
    squares += residual * residual;
  }
  return 1.96 * std::sqrt(squares * n / (n - 1)) / static_cast<double>(count_);
}

void RoundCount::Add(const RoundCount& other) {
  rounds += other.rounds;
  drafted += other.drafted;
  accepted += other.accepted;
}

RoundCount CountRounds(absl::Span<const uint8_t> matches, int32_t window) {
  RoundCount count;
  const int64_t length = static_cast<int64_t>(matches.size());
  for (int64_t at = 1; at < length;) {
    const int64_t drafted = std::min<int64_t>(window, length - at - 1);
    int64_t accepted = 0;
    while (accepted < drafted && matches[at + accepted] != 0) ++accepted;
    ++count.rounds;
    count.drafted += drafted;
    count.accepted += accepted;
    at += accepted + 1;
  }
  return count;
}

StreamVariety MeasureVariety(absl::Span<const std::vector<TokenId>> streams) {
  StreamVariety variety;
  std::set<TokenId> tokens;
  std::set<std::vector<TokenId>> runs;
  for (const std::vector<TokenId>& stream : streams) {
    tokens.insert(stream.begin(), stream.end());
    variety.num_tokens += static_cast<int64_t>(stream.size());
    for (size_t end = kRunLength; end <= stream.size(); ++end) {
      runs.insert({stream.begin() + static_cast<int64_t>(end) - kRunLength,
                   stream.begin() + static_cast<int64_t>(end)});
      ++variety.num_runs;
    }
  }
  variety.num_distinct_tokens = static_cast<int64_t>(tokens.size());
  variety.num_distinct_runs = static_cast<int64_t>(runs.size());
  return variety;
}

}  // namespace mirrorsd::measure
