#pragma once
// Every wait of the core has one entry here. An ordered set, so that the next deadline and the order of
// those that fall together are exact. Not thread-safe.

#include <cstdint>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"

namespace mirrorsd::scheduler {

enum class Wait : uint8_t {
  kWorkerSilent = 0,  // id: incarnation
  kRound,             // incarnation of the verifier whose round is outstanding
  kDraftWindows,      // a verifier's cohort waits for windows: incarnation * kNumCohorts + its index
  kSequenceStarted,   // ordinal of the request
  kSequenceEnded,     // sequence id at a worker
  kRequestDeadline,   // ordinal of the request: the client's own deadline
  kVerifier,          // ordinal: queued, or held after a loss
  kRetryVerifier,     // ordinal: pause after KV_EXHAUSTED
  kRetryDraft,        // ordinal: pause after the draft dropped it
};

class Deadlines {
 public:
  using Key = std::pair<Wait, uint64_t>;

  // Sets or moves one.
  void Set(Wait wait, uint64_t id, absl::Time when);
  // No-op where there is none.
  void Clear(Wait wait, uint64_t id);
  bool Has(Wait wait, uint64_t id) const { return when_.contains(Key(wait, id)); }

  absl::Time Next() const;
  // Takes out the earliest that `now` has reached.
  std::optional<Key> PopDue(absl::Time now);

  size_t size() const { return ordered_.size(); }

 private:
  std::set<std::tuple<absl::Time, Wait, uint64_t>> ordered_;
  absl::flat_hash_map<Key, absl::Time> when_;  // the same entries; look-up only
};

}  // namespace mirrorsd::scheduler
