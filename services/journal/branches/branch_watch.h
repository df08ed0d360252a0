#pragma once
// With what each round of one request began, told from what was asked of its draft and what came back: the branch that
// hit and how deep it was, or why none did and what stood in for it. Reads along with a journal; the core, which
// decides, keeps its own books. Not thread-safe.

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/ids.h"
#include "common/worker_messages.h"
#include "scheduler/core/counters.h"

namespace mirrorsd::journal {

enum class Beginning : uint8_t {
  kPlain = 0,  // without speculation, or a serial round whose window did not come
  kSerial,     // with a window that was drafted after the decision
  kHit,        // with the tokens of a branch
  kEmpty,      // after a miss: without a window
  kNgram,      // after a miss: with a window that no draft made
  kHeld,       // after a miss: with a window drafted after the decision
};

struct RoundBeginning {
  Beginning beginning = Beginning::kPlain;
  int32_t hit_depth = 0;  // tokens that the branch had
  std::optional<scheduler::BranchMissReason> miss;
};

// "a branch that hit, 3 deep", "a miss (not_predicted), no window"; empty for kPlain.
std::string Describe(const RoundBeginning& beginning);

class BranchWatch {
 public:
  struct Request {
    bool is_mirror = false;  // else the first rollout beside a round says so
    bool holds = false;      // after a miss: MissFallback::kHold
    int32_t max_tokens = std::numeric_limits<int32_t>::max();
  };
  BranchWatch() = default;
  explicit BranchWatch(const Request& request) : request_(request) {}

  // In the order in which they happened.
  void SeeRollout(RoundId round, const std::vector<RolloutRoot>& roots);
  void SeeProgress(const RolloutProgress& progress);
  void SeeOutcome(RoundId round, int32_t num_accepted, TokenId correction_token);
  void SeeCommitted(int32_t output_length) { output_length_ = output_length; }
  // A round with a window of the request has been sent. The first one after a prompt has seen an outcome too.
  RoundBeginning SeeRound(int32_t window_size);

  // The outcome that the next round begins with, as a branch's key.
  std::optional<std::pair<int32_t, TokenId>> outcome() const { return outcome_; }

 private:
  using Key = std::pair<int32_t, TokenId>;  // accepted, root

  // What was rolled out for one round.
  struct Tree {
    RoundId round = 0;
    std::set<Key> predicted;
    std::map<Key, int32_t> depth;  // tokens received
    bool is_beside = false;        // asked for while the round ran
    bool has_serial = false;       // a draft after the decision
  };
  const Tree* TreeOf(RoundId round) const;

  Request request_;
  int32_t output_length_ = 0;
  Tree tree_;    // the latest
  Tree before_;  // the one before: the next round's may be asked for before that round is sent
  RoundId decided_round_ = 0;
  std::optional<Key> outcome_;
  bool is_held_ = false;  // what was asked for had no token yet, and the round is held for it
};

}  // namespace mirrorsd::journal
