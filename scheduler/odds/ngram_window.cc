#include "scheduler/odds/ngram_window.h"

#include <algorithm>

namespace mirrorsd::scheduler {
namespace {

constexpr size_t kReach = 4096;
constexpr size_t kLongest = 3;
constexpr size_t kShortest = 2;

}  // namespace

std::vector<TokenId> NgramWindow(absl::Span<const TokenId> tokens, int32_t max_window) {
  if (max_window <= 0) return {};
  if (tokens.size() > kReach) tokens.remove_prefix(tokens.size() - kReach);
  for (size_t n = std::min(kLongest, tokens.size()); n >= kShortest; --n) {
    const absl::Span<const TokenId> last = tokens.last(n);
    // `end` is where an occurrence ends; the last one is the text's own end.
    for (size_t end = tokens.size() - 1; end >= n; --end) {
      if (tokens[end - 1] != last.back()) continue;
      if (tokens.subspan(end - n, n) != last) continue;
      const absl::Span<const TokenId> next = tokens.subspan(end, max_window);
      return {next.begin(), next.end()};
    }
  }
  return {};
}

}  // namespace mirrorsd::scheduler
