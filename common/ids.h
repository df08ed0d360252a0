#pragma once
// Identities that cross processes. Plain integers: the compiler does not tell them apart, their names do.

#include <cstddef>
#include <cstdint>

namespace mirrorsd {

using TokenId = int32_t;       // index into the target's vocabulary; negative is never valid
using SequenceId = uint64_t;   // given by the scheduler; one request has one per worker
using RoundId = uint64_t;      // given by the scheduler, increasing
using ConnectionId = uint64_t; // one Attach stream or one Submit stream, given by the process that serves it
using BlockId = int32_t;       // index into a worker's KV block pool

inline constexpr size_t kMaxRequestIdBytes = 128;
inline constexpr int kMaxTokensPerAppend = 4096;
inline constexpr int kMaxBranchTopK = 32;

// The one number that must be equal on both ends of an internal stream.
inline constexpr uint32_t kSchemaRevision = 2;

// Says whose message a message is: anything of another epoch or incarnation is a no-op.
struct Fence {
  uint64_t scheduler_epoch = 0;
  uint64_t incarnation = 0;

  bool operator==(const Fence&) const = default;
};

}  // namespace mirrorsd
