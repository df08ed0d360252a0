#pragma once
// What the workers of a recorded life were doing, round by round: phases of the verifiers, rollouts of the drafts, the
// relay between them, waits. Made from events and from the actions that repeating the life gives. Not a
// picture: chrome_trace.h and strip.h draw it. One thread.
//
// Workers tell how long a phase took, not when by the scheduler's clock. So a round's phases are laid back to back
// to end when its VerifyDone came in, and a rollout is laid to end when its last message came in: all of a
// round is late by the way of one message. Times are nanoseconds of the scheduler's CLOCK_MONOTONIC.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/worker_messages.h"
#include "services/journal/branches/branch_watch.h"
#include "services/journal/replay.h"

namespace mirrorsd::trace {

struct TimelineOptions {
  RoundId first_round = 1;  // [first, last]
  RoundId last_round = UINT64_MAX;
  std::string request_id;   // rounds with this request only; empty: all
  size_t max_rounds = 20'000;  // beyond, the timeline is cut
};

struct TracedWorker {
  ConnectionId connection = 0;
  bool is_draft = false;
  std::string name;
  std::string boot_id;
};

// [begin, end)
struct Stretch {
  int64_t begin_ns = 0;
  int64_t end_ns = 0;
};

enum class RolloutKind : uint8_t {
  kFirst = 0,  // P1: roots of the draft's own, beside the layer prefix
  kSecond,     // P2: roots from the early exit, beside the layer suffix
  kSerial,     // after the decision
};
inline constexpr int kNumRolloutKinds = 3;

// All rollouts of a kind that one draft made for one round.
struct TracedRollout {
  ConnectionId draft = 0;
  RoundId round = 0;
  RolloutKind kind = RolloutKind::kSerial;
  int64_t asked_ns = 0;   // the first StartRollout
  Stretch computing;      // from the first begun to the last message
  bool answered = false;  // else there is no `computing`
  std::set<SequenceId> sequences;
  int64_t num_branches = 0;  // that were told of
  int64_t num_tokens = 0;
  // P2: exit report sent to the first rollout begun; only between workers of one boot_id.
  std::optional<int64_t> relay_ns;
};

// A request's part of a round.
struct TracedItem {
  ConnectionId stream = 0;
  bool is_prefill = false;
  int32_t rows = 0;    // of a prefill
  int32_t window = 0;  // tokens
  int32_t num_accepted = 0;
  journal::RoundBeginning beginning;
  // Where the tokens of a hit, or of a serial draft, come from.
  RoundId from_round = 0;
  RolloutKind from_kind = RolloutKind::kSerial;
};

struct TracedRound {
  ConnectionId verifier = 0;
  RoundId id = 0;
  int64_t sent_ns = 0;     // StartVerify
  int64_t exit_ns = 0;     // the exit report came in; 0: there was none
  int64_t done_ns = 0;     // VerifyDone came in; 0: never
  VerifierPhaseTimes times;
  std::vector<TracedItem> items;

  // When the verifier began to compute, by `done_ns`.
  int64_t begin_ns() const;
  int64_t exit_end_ns() const;
};

// A verifier without a round while it had requests, or a draft while a sequence caught up.
struct TracedState {
  ConnectionId worker = 0;
  Stretch stretch;
};

struct Timeline {
  int64_t first_event_ns = 0;
  std::vector<TracedWorker> workers;  // in order of attachment
  std::map<ConnectionId, std::string> requests;  // id by stream
  std::vector<TracedRound> rounds;    // in order of StartVerify
  std::vector<TracedRollout> rollouts;
  std::vector<TracedState> waits;
  std::vector<TracedState> catch_ups;
  uint64_t num_rounds = 0;  // of the whole life
  bool is_cut = false;      // by max_rounds
};

class TimelineMaker {
 public:
  TimelineMaker(const wire::RecordedLife& life, TimelineOptions options);
  ~TimelineMaker();

  // Every step of the life, in order.
  void See(const journal::ReplayStep& step);

  Timeline Finish();

 private:
  class State;
  const std::unique_ptr<State> state_;
};

// Repeats the life and makes its timeline.
// Errors:  of journal::Replay (a ring cannot be repeated); BAD_FILE where this build does something else than was
//          recorded; NOT_FOUND where no round is of what was asked for
absl::StatusOr<Timeline> ReadTimeline(journal::JournalReader* reader, const TimelineOptions& options);

// "P1", "P2", "serial".
const char* RolloutKindName(RolloutKind kind);

// "window 4, 3 accepted, began with a branch that hit, 4 deep"; of several requests the sums.
std::string DescribeRound(const TracedRound& round);

}  // namespace mirrorsd::trace
