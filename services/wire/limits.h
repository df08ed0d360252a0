#pragma once
// The largest values that a message may carry, whoever sent it. Narrower limits (a model's vocabulary, a
// worker's rows) are checked where they are known. Plain constants.

#include <cstddef>
#include <cstdint>

#include "common/ids.h"

namespace mirrorsd::wire {

inline constexpr int32_t kMaxWindowTokens = 64;       // G, and the depth of a rollout
inline constexpr int32_t kMaxContextTokens = 1 << 24;  // any token position or length
inline constexpr int32_t kMaxPromptTokens = 1 << 21;   // of one Submit; fits a message
inline constexpr int32_t kMaxPathTokens = 1 << 20;     // of one StartRollout
inline constexpr int32_t kMaxRoundItems = 8192;
inline constexpr int32_t kMaxCandidates = 64;          // K, of one row
inline constexpr int32_t kMaxRoots = 4096;             // of one StartRollout
inline constexpr int32_t kMaxOwnRank = 1023;
inline constexpr int32_t kMaxBatchEntries = 65536;     // commands or reports of one message
inline constexpr int32_t kMaxCommittedTokens = 65536;  // of one Committed
inline constexpr int32_t kMaxEndTokens = 256;
inline constexpr int32_t kMaxLogitBias = 1024;
inline constexpr int32_t kMaxLogprobs = 64;            // best tokens told of one position
inline constexpr int32_t kMaxAttachedWorkers = 4096;

inline constexpr size_t kMaxNameBytes = 256;     // names, fingerprints, ids of boots and numerics
inline constexpr size_t kMaxReasonBytes = 64;
inline constexpr size_t kMaxMessageTextBytes = 4096;  // what is for people

inline constexpr int64_t kMaxDeadlineNs = int64_t{366} * 24 * 3600 * 1'000'000'000;  // a year
inline constexpr int64_t kMaxKvBlocks = int64_t{1} << 31;

}  // namespace mirrorsd::wire
