// Rounds in words (timeline.h).

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/trace/timeline.h"

namespace mirrorsd::trace {
namespace {

using journal::Beginning;

const char* BeginningWord(Beginning beginning) {
  switch (beginning) {
    case Beginning::kSerial: return "serial";
    case Beginning::kEmpty: return "no window";
    case Beginning::kNgram: return "n-gram";
    case Beginning::kHeld: return "held";
    default: return "";
  }
}

// "3 hits 2.7 deep, 1 miss (not_predicted: no window)".
std::string BeginningsOf(const TracedRound& round) {
  int hits = 0, depth = 0, misses = 0, serial = 0;
  std::map<std::string, int> reasons;
  for (const TracedItem& item : round.items) {
    const journal::RoundBeginning& beginning = item.beginning;
    if (beginning.beginning == Beginning::kHit) ++hits, depth += beginning.hit_depth;
    if (beginning.beginning == Beginning::kSerial) ++serial;
    if (!beginning.miss.has_value()) continue;
    ++misses;
    ++reasons[absl::StrCat(scheduler::BranchMissReasonName(*beginning.miss), ": ",
                           BeginningWord(beginning.beginning))];
  }
  std::string text;
  const auto add = [&](const std::string& part) { absl::StrAppend(&text, text.empty() ? "" : ", ", part); };
  if (hits > 0) add(absl::StrFormat("%d hit%s %.1f deep", hits, hits > 1 ? "s" : "", 1.0 * depth / hits));
  if (misses > 0) {
    std::string why;
    for (const auto& [reason, count] : reasons) {
      absl::StrAppend(&why, why.empty() ? "" : "; ", count > 1 ? absl::StrCat(count, " ") : "", reason);
    }
    add(absl::StrFormat("%d miss%s (%s)", misses, misses > 1 ? "es" : "", why));
  }
  if (serial > 0) add(absl::StrFormat("%d serial", serial));
  return text;
}

}  // namespace

std::string DescribeRound(const TracedRound& round) {
  int decoding = 0, window = 0, accepted = 0, rows = 0;
  for (const TracedItem& item : round.items) {
    decoding += item.is_prefill ? 0 : 1;
    window += item.window;
    accepted += item.num_accepted;
    rows += item.rows;
  }
  std::string text;
  if (decoding > 1) absl::StrAppend(&text, decoding, " requests, ");
  if (decoding > 0) absl::StrAppend(&text, "window ", window, ", ", accepted, " accepted");
  if (rows > 0) absl::StrAppend(&text, text.empty() ? "" : ", ", rows, " prompt tokens");
  const std::string beginnings = BeginningsOf(round);
  if (!beginnings.empty()) absl::StrAppend(&text, "; began with ", beginnings);
  if (round.done_ns == 0) absl::StrAppend(&text, "; never ended");
  return text;
}

}  // namespace mirrorsd::trace
