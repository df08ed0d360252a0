#pragma once
// What one schedule consists of: a cell, its clients and its faults, all decided up front from one seed. Each
// item carries its own seed, so that any can be left out and the rest stays the same: that is how a failing
// schedule is made short. Plain data.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/worker_messages.h"
#include "scheduler/core/core.h"

namespace mirrorsd::sim {

enum class FaultKind : uint8_t {
  kKill = 0,          // the process dies; its connection breaks soon after
  kHalfOpen,          // it comes again before the old connection is known to be gone
  kDrop,              // the connection breaks; the process lives and dials again
  kHang,              // neither computes nor beats, for a while or for good
  kStall,             // beats, but computes nothing
  kSlow,              // computes, many times slower
  kQueueFull,         // its outbound queue overflows
  kLie,               // a report that cannot be true
  kStale,             // a report of an earlier life, round or rollout, as harmful as can be
  kDrain,
  kItemError,         // one item of a round fails: NaN, no KV, unknown sequence
  kEvict,             // a draft drops a sequence from its KV and brings it back
  kForget,            // a draft loses a sequence
  kBadHello,          // it comes again with another schema, vocabulary or model
  kGone,              // all workers of the role die at once
  kStandStill,        // the scheduler's host stands still; everything else is late with it
  kNewLife,           // the scheduler itself dies and starts again with a new epoch
};
inline constexpr int kNumFaultKinds = 17;
const char* FaultName(FaultKind kind);

struct PlannedFault {
  uint64_t seed = 0;
  absl::Duration at;  // if no request is live then: right after the next one comes
  FaultKind kind = FaultKind::kKill;
  WorkerRole role = WorkerRole::kVerifier;
  int32_t index = 0;  // which worker, modulo those there
  absl::Duration lasts = absl::InfiniteDuration();
};

// What is wrong with a request, so that it must be refused at once.
enum class Flaw : uint8_t {
  kNone = 0, kEmptyPrompt, kPromptTooLong, kBadToken, kBadBias, kNoTokens, kNegativeWindow,
  kPastDeadline, kVocabulary, kDuplicate, kNoSuchMode, kLongId,
};
inline constexpr int kNumFlaws = 12;

struct PlannedClient {
  uint64_t seed = 0;  // of the prompt
  absl::Duration at;
  int32_t prompt_length = 1;
  int32_t max_tokens = 1;
  bool ends = false;          // has an end token
  bool speculates = true;
  SpeculationMode mode = SpeculationMode::kDefault;  // asked for by itself, if it speculates
  int32_t window = -1;        // num_speculative_tokens; -1: the default
  absl::Duration deadline;    // zero: none
  absl::Duration cancels_after = absl::InfiniteDuration();
  int32_t slow_after = -1;    // its stream takes no more than this many messages; -1: it reads
  bool retries = false;       // a retryable failure is asked again
  Flaw flaw = Flaw::kNone;
};

struct PlannedWorker {
  uint64_t seed = 0;
  absl::Duration at;  // of its first dial
  int32_t numerics = 0;
  WorkerLimits limits;
  int64_t blocks = 0;
  StepTimes step_times;
  absl::Duration step;  // base of a round, or a depth
};

struct Plan {
  uint64_t seed = 0;
  scheduler::CoreConfig config;
  absl::Duration tick;                 // of the scheduler's clock
  int32_t agreement = 70;              // of the draft with the target, of 100
  int32_t exit_recall = 70;            // of the verifier's early exit, of 100
  int32_t exit_mute = 0;               // one in so many rounds has no exit report; 0: none
  int32_t gives_up_one_in = 0;         // branches that end before their time; 0: none
  int32_t repeat_one_in = 0;           // reports that come twice
  bool jitter = true;                  // of the network
  bool mixes_modes = false;            // clients ask for modes of their own
  bool two_numerics = false;
  bool joins_steps = false;            // deadlines and events in one Step
  std::vector<PlannedWorker> verifiers;
  std::vector<PlannedWorker> drafts;
  std::vector<PlannedClient> clients;
  std::vector<PlannedFault> faults;
  // Used in order where fewer than kMinFaults came in mid-stream: a client, and a fault in its middle.
  std::vector<PlannedClient> spare_clients;
  std::vector<PlannedFault> spare_faults;
};

inline constexpr int32_t kContext = 96;
inline constexpr int32_t kDraftContext = 80;
inline constexpr int32_t kBlockTokens = 4;
inline constexpr int kMinFaults = 3;
inline constexpr absl::Duration kActive = absl::Seconds(10);    // requests and faults come in this time
inline constexpr absl::Duration kPatience = absl::Seconds(60);  // then everything must have ended

Plan MakePlan(uint64_t seed);

// One line per item.
std::string Describe(const Plan& plan);

}  // namespace mirrorsd::sim
