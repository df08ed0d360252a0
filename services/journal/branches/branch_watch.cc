#include "services/journal/branches/branch_watch.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace mirrorsd::journal {

std::string Describe(const RoundBeginning& beginning) {
  const auto after_miss = [&](const char* with) {
    return absl::StrCat("a miss (", scheduler::BranchMissReasonName(*beginning.miss), "), ", with);
  };
  switch (beginning.beginning) {
    case Beginning::kPlain: return "";
    case Beginning::kSerial: return "a serial draft";
    case Beginning::kHit: return absl::StrCat("a branch that hit, ", beginning.hit_depth, " deep");
    case Beginning::kEmpty: return after_miss("no window");
    case Beginning::kNgram: return after_miss("an n-gram window");
    case Beginning::kHeld: return after_miss("a held draft");
  }
  return "";
}

void BranchWatch::SeeRollout(RoundId round, const std::vector<RolloutRoot>& roots) {
  if (round != tree_.round) {
    before_ = std::exchange(tree_, Tree{});
    tree_.round = round;
  }
  const bool is_serial = round == decided_round_;
  tree_.has_serial |= is_serial;
  tree_.is_beside |= !is_serial;
  request_.is_mirror |= !is_serial;
  for (const RolloutRoot& root : roots) {
    if (root.token.has_value() && !is_serial) tree_.predicted.insert({root.num_accepted, *root.token});
  }
}

void BranchWatch::SeeProgress(const RolloutProgress& progress) {
  if (progress.round_id != tree_.round) return;
  const Key key{progress.num_accepted, progress.root_token};
  // What the draft found by itself was predicted, too, once it has a name.
  if (!tree_.has_serial) tree_.predicted.insert(key);
  int32_t& depth = tree_.depth[key];
  if (progress.first_depth == depth) depth += static_cast<int32_t>(progress.token_ids.size());
}

void BranchWatch::SeeOutcome(RoundId round, int32_t num_accepted, TokenId correction_token) {
  decided_round_ = round;
  outcome_ = Key{num_accepted, correction_token};
  const Tree* const tree = TreeOf(round);
  is_held_ = false;
  if (!request_.holds || tree == nullptr) return;
  const auto depth = tree->depth.find(*outcome_);
  is_held_ = depth == tree->depth.end() || depth->second == 0;
}

const BranchWatch::Tree* BranchWatch::TreeOf(RoundId round) const {
  if (tree_.round == round) return &tree_;
  return before_.round == round ? &before_ : nullptr;
}

RoundBeginning BranchWatch::SeeRound(int32_t window_size) {
  RoundBeginning beginning;
  if (!outcome_.has_value()) return beginning;
  const Key outcome = *std::exchange(outcome_, std::nullopt);
  if (!request_.is_mirror) {
    beginning.beginning = window_size > 0 ? Beginning::kSerial : Beginning::kPlain;
    return beginning;
  }
  if (request_.max_tokens - output_length_ <= 1) return beginning;  // the last token has no window, come what may
  static const Tree kNothing;
  const Tree* const found = TreeOf(decided_round_);
  const Tree& tree = found != nullptr ? *found : kNothing;
  const auto depth = tree.depth.find(outcome);
  const bool is_drafted = depth != tree.depth.end() && depth->second > 0;
  const bool is_held = is_held_ || tree.has_serial;
  if (is_drafted && !is_held) {
    if (window_size == 0) return beginning;  // there was no room for it
    beginning.beginning = Beginning::kHit;
    beginning.hit_depth = depth->second;
    return beginning;
  }
  beginning.miss = !tree.is_beside                     ? scheduler::BranchMissReason::kNotReady
                   : tree.predicted.count(outcome) > 0 ? scheduler::BranchMissReason::kNotDrafted
                                                       : scheduler::BranchMissReason::kNotPredicted;
  beginning.beginning = window_size == 0         ? Beginning::kEmpty
                        : is_held && is_drafted ? Beginning::kHeld
                                                : Beginning::kNgram;
  return beginning;
}

}  // namespace mirrorsd::journal
