#pragma once
// What a run of schedules has come across, each thing counted where its oracle was checked. A thing that a
// long enough run never met was not tested: that fails the run. Plain data, not thread-safe; tables of
// several processes are added up.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/sim/plan/plan.h"

namespace mirrorsd::sim {

// X(name, section, text, one_in): `one_in` says in how many schedules it is met at least once; a run of
// fewer than kEnough x one_in schedules may miss it.
#define MIRRORSD_SIM_ROWS(X)                                                                        \
  X(kNewWaiting, "stage", "new -> waiting", 1)                                                      \
  X(kNewRefused, "stage", "new -> end: refused", 1)                                                 \
  X(kWaitingStarting, "stage", "waiting -> starting", 1)                                            \
  X(kWaitingEnd, "stage", "waiting -> end", 2)                                                      \
  X(kStartingPrefilling, "stage", "starting -> prefilling", 1)                                      \
  X(kStartingWaiting, "stage", "starting -> waiting", 4)                                            \
  X(kStartingEnd, "stage", "starting -> end", 4)                                                    \
  X(kPrefillingPrefilling, "stage", "prefilling -> prefilling: an inner chunk", 1)                  \
  X(kPrefillingDecoding, "stage", "prefilling -> decoding: the first token", 1)                     \
  X(kPrefillingWaiting, "stage", "prefilling -> waiting", 3)                                        \
  X(kPrefillingEnd, "stage", "prefilling -> end", 3)                                                \
  X(kDecodingDecoding, "stage", "decoding -> decoding: a round", 1)                                 \
  X(kDecodingWaiting, "stage", "decoding -> waiting", 1)                                            \
  X(kDecodingEnd, "stage", "decoding -> end", 1)                                                    \
  X(kAbsentCatchingUp, "draft state", "absent -> catching_up", 1)                                   \
  X(kCatchingUpReady, "draft state", "catching_up -> ready", 1)                                     \
  X(kCatchingUpAbsent, "draft state", "catching_up -> absent", 2)                                   \
  X(kReadyEvicted, "draft state", "ready -> evicted", 6)                                            \
  X(kEvictedReady, "draft state", "evicted -> ready", 10)                                           \
  X(kEvictedAbsent, "draft state", "evicted -> absent", 20)                                         \
  X(kReadyAbsent, "draft state", "ready -> absent: its sequence ends", 1)                           \
  X(kReadyForgotten, "draft state", "ready -> absent: the draft lost it", 6)                        \
  X(kReadyLost, "draft state", "ready -> absent: the draft-worker is lost", 1)                      \
  X(kVerifierAttached, "worker", "verifier attached", 1)                                            \
  X(kDraftAttached, "worker", "draft attached", 1)                                                  \
  X(kVerifierLost, "worker", "verifier lost", 1)                                                    \
  X(kDraftLost, "worker", "draft lost", 1)                                                          \
  X(kVerifierDrained, "worker", "verifier drains, and goes empty", 8)                               \
  X(kDraftDrained, "worker", "draft drains, and goes empty", 8)                                     \
  X(kDrainLost, "worker", "draining worker lost with sequences", 8)                                 \
  X(kReplaced, "worker", "replaced by a newer one of its name", 3)                                  \
  X(kDraftLate, "worker", "draft on time -> late: deadlines missed", 4)                             \
  X(kDraftLateBehind, "worker", "draft on time -> late: catch-up stands still", 40)                 \
  X(kNameInUse, "worker", "refused: one of its name lives", 4)                                      \
  X(kDraftLateMute, "worker", "draft on time -> late: it left an end unanswered", 40)               \
  X(kDraftOnTimeIdle, "worker", "draft late -> on time: it owes nothing", 40)                       \
  X(kDraftOnTime, "worker", "draft late -> on time", 8)                                             \
  X(kDraftLateGone, "worker", "draft late -> lost", 4)                                              \
  X(kLateOn, "degraded", "draft_late on", 4)                                                        \
  X(kLateOff, "degraded", "draft_late off", 4)                                                      \
  X(kLostOn, "degraded", "draft_lost on", 1)                                                        \
  X(kLostOff, "degraded", "draft_lost off", 1)                                                      \
  X(kGoesOnWithoutDraft, "contract", "draft lost: the request's rounds go on", 2)                   \
  X(kGoesOnLateDraft, "contract", "draft late: the request's rounds go on", 5)                      \
  X(kSpeculationBack, "contract", "draft lost: speculation is back", 3)                             \
  X(kHungSilent, "contract", "worker hung: no heartbeat in time", 2)                                \
  X(kHungRound, "contract", "worker hung: a round beyond its limit", 6)                             \
  X(kHungStart, "contract", "worker hung: a sequence not started in time", 40)                      \
  X(kEndTimeout, "contract", "worker hung: a sequence not ended in time", 8)                        \
  X(kResumedOther, "contract", "verifier lost: resumed on another, tokens right", 2)                \
  X(kResumedSame, "contract", "verifier lost: resumed on the same, tokens right", 6)                \
  X(kLossTimeout, "contract", "verifier lost: no equal one in time, UNAVAILABLE", 8)                \
  X(kLostAgain, "contract", "verifier lost again and again, UNAVAILABLE", 2000)                     \
  X(kNumericsRefused, "contract", "verifier lost: another numerics_id has room and is not taken", 20)\
  X(kNewLifeFinished, "contract", "scheduler lost: asked again and finished, tokens right", 4)      \
  X(kCancelWaiting, "contract", "client cancels: waiting", 6)                                       \
  X(kCancelStarting, "contract", "client cancels: starting", 30)                                    \
  X(kCancelPrefilling, "contract", "client cancels: prefilling", 12)                                \
  X(kCancelRound, "contract", "client cancels: in a round", 5)                                      \
  X(kCancelWindow, "contract", "client cancels: a window is awaited", 10)                           \
  X(kCancelEnded, "contract", "client cancels: too late", 3)                                        \
  X(kSlowClient, "contract", "slow client ended alone", 4)                                          \
  X(kQueueFull, "contract", "overload: QUEUE_FULL", 3)                                              \
  X(kQueueTimeout, "contract", "overload: QUEUE_TIMEOUT", 6)                                        \
  X(kDrainRefuses, "contract", "SIGTERM: new requests are refused", 1)                              \
  X(kDrainFinishes, "contract", "SIGTERM: a running request finishes", 3)                           \
  X(kDeadline, "contract", "client's deadline", 4)                                                  \
  X(kNan, "contract", "NaN logits fail that request alone", 10)                                     \
  X(kFlawRefused, "contract", "a bad request is refused at once", 2)                                \
  X(kNoVerifier, "contract", "no verifier yet: refused, retryable", 4)                              \
  X(kWindowShrinks, "contract", "KV short: windows shrink", 3)                                      \
  X(kPreempted, "contract", "KV short: the youngest is preempted", 2)                               \
  X(kRecomputed, "contract", "KV short: recomputed and gone on, tokens right", 2)                   \
  X(kItemRetried, "contract", "an item error is tried again, tokens right", 10)                     \
  X(kBlocksBack, "contract", "an ended sequence's blocks are back at the worker", 1)                \
  X(kEndStop, "end", "stop", 1)                                                                     \
  X(kEndLength, "end", "length", 1)                                                                 \
  X(kEndInWindow, "end", "inside a window", 1)                                                      \
  X(kRecovered, "end", "a round closed by a recovered token", 1)                                    \
  X(kBonus, "end", "a round closed by a bonus token after a window", 1)                             \
  X(kPartWindow, "end", "a window taken before its rollout was whole", 4)                           \
  X(kExitReported, "branch", "an early exit's report", 2)                                           \
  X(kExitLeftOut, "branch", "an exit's report that leaves an item out", 4)                          \
  X(kPromptBranches, "branch", "a prompt's outcome has branches", 2)                                \
  X(kOwnRootNamed, "branch", "the draft names its own root", 2)                                     \
  X(kTailSaid, "branch", "what the draft has already is said at once", 3)                           \
  X(kExitBranches, "branch", "a branch that the exit made likely", 2)                               \
  X(kBranchGivenUp, "branch", "a branch ends before its depth", 3)                                  \
  X(kTreeReplaced, "branch", "a tree replaced while it is rolled out", 2)                           \
  X(kOwnHit, "branch", "hit: the draft's own root", 2)                                              \
  X(kExitHit, "branch", "hit: an exit's candidate", 3)                                              \
  X(kPartBranch, "branch", "hit: at a part of its depth", 2)                                        \
  X(kBranchMissed, "branch", "miss: not predicted", 2)                                              \
  X(kBranchEmpty, "branch", "miss: predicted, but no token came in time", 4)                        \
  X(kHeld, "branch", "miss: the cohort is held for a serial draft", 4)                              \
  X(kNgram, "branch", "miss: a window from the text itself", 6)                                     \
  X(kDraftLostBusy, "branch", "a draft lost in the middle of rollouts", 2)                          \
  X(kVerifierLostBusy, "branch", "a verifier lost while its round's branches are rolled out", 3)    \
  X(kRepeated, "fault", "a report came twice: no-op", 2)                                            \
  X(kStandStill, "fault", "the scheduler's host stood still", 10)                                   \
  X(kNewLife, "fault", "a new life of the scheduler", 3)                                            \
  X(kAllVerifiersGone, "fault", "no verifier at all while requests live", 2)                        \
  X(kAllDraftsGone, "fault", "no draft at all while requests live", 2)

enum class Row : uint16_t {
#define MIRRORSD_SIM_ENUM(name, section, text, one_in) name,
  MIRRORSD_SIM_ROWS(MIRRORSD_SIM_ENUM)
#undef MIRRORSD_SIM_ENUM
      kNumRows
};
inline constexpr int kNumRows = static_cast<int>(Row::kNumRows);

// The lies that a worker may tell (kLie) and what must come of each.
enum class Lie : uint8_t {
  kTooManyAccepted = 0, kNegativeAccepted, kWrongKvLength, kNoCorrection, kInnerCorrection,
  kBadCorrection, kTooFewAccepted, kFutureRound, kUnknownItem, kDoneEarly, kCachedTooLong,
  kUnknownSequence, kEndedAlone, kBadBlocks, kHelloTwice, kWrongRole,
  kTooManyTokens, kWrongRoot, kSkippedDepth, kBadDraftToken, kFutureRollout, kDraftKvTooLong,
  kUnknownState,
  kWrongRow, kBadOwnRoot, kExitNotAsked, kExitRows, kExitDraftedScore, kExitTooMany, kExitBadToken,
  kExitDrafted, kExitUnknownItem, kExitFutureRound, kExitsFutureRound,
};
inline constexpr int kNumLies = 34;
const char* LieName(Lie lie);

// Reports of another life, round or rollout (kStale): all must be no-ops.
enum class Stale : uint8_t {
  kOutcomeFence = 0,  // an outcome of the outstanding round with a wrong token, of another fence
  kDoneFence, kStartedFence, kEndedFence, kProgressFence, kAbsentFence, kBeatFence,
  kOutcomeRound,      // an outcome of an earlier round, with the right fence
  kDoneRound, kOutcomeAgain, kStartedAgain, kEndedAgain, kProgressRound, kProgressAgain,
  kCancelAgain, kProgressAnswered, kExitFence, kExitRound, kExitsRound, kExitAgain, kExitLate,
};
inline constexpr int kNumStales = 21;
const char* StaleName(Stale stale);

class Coverage {
 public:
  // A run of fewer schedules than this times one_in may miss a row.
  static constexpr int64_t kEnough = 40;

  void Count(Row row) { ++rows_[static_cast<int>(row)]; }
  void Count(FaultKind kind, WorkerRole role) {
    ++faults_[static_cast<int>(kind)][role == WorkerRole::kVerifier ? 0 : 1];
  }
  void Count(Lie lie) { ++lies_[static_cast<int>(lie)]; }
  void Count(Stale stale) { ++stales_[static_cast<int>(stale)]; }
  void Add(const Coverage& other);

  struct Line {
    std::string section;
    std::string text;
    int64_t count = 0;
    int64_t one_in = 1;
  };
  std::vector<Line> Lines() const;
  // The table, and the rows that `num_schedules` should have met and did not.
  std::string Table(int64_t num_schedules) const;
  std::vector<std::string> Missed(int64_t num_schedules) const;

 private:
  std::array<int64_t, kNumRows> rows_{};
  std::array<std::array<int64_t, 2>, kNumFaultKinds> faults_{};
  std::array<int64_t, kNumLies> lies_{};
  std::array<int64_t, kNumStales> stales_{};
};

}  // namespace mirrorsd::sim
