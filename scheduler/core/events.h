#pragma once
// What goes into the core and what comes out. The process around the core (services/scheduler) turns
// streams into events and actions into streams; the core itself does no I/O. An event is one sequence's
// item: a VerifyDone of many items is that many events and one VerifyRoundDone, an EarlyExitReported
// that many and one EarlyExitRoundReport. Plain data.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/request.h"
#include "common/worker_messages.h"

namespace mirrorsd::scheduler {

// ---- events ---------------------------------------------------------------------------------------

struct Submitted {
  ConnectionId stream = 0;  // the Submit stream that everything about this request goes to
  SubmitRequest request;
};

struct Cancelled {
  ConnectionId stream = 0;
};

struct WorkerAttached {
  ConnectionId connection = 0;
  Hello hello;
};

struct WorkerDetached {
  ConnectionId connection = 0;
  std::string reason;
};

// A worker's report, with the VerifyDone and EarlyExitReported split as said above.
struct VerifyItemReport {
  RoundId round_id = 0;
  VerifyItemDone item;
};
struct VerifyRoundDone {
  RoundId round_id = 0;
  VerifierPhaseTimes times;
  KvBlocks blocks;
};
struct EarlyExitItemReport {
  RoundId round_id = 0;
  EarlyExitItem item;
};
// The last of one EarlyExitReported.
struct EarlyExitRoundReport {
  RoundId round_id = 0;
  int64_t sent_at_ns = 0;
  VerifierPhaseTimes times;
};

using ReportItem =
    std::variant<Heartbeat, SequenceStarted, EarlyExitItemReport, EarlyExitRoundReport,
                 VerifyItemReport, VerifyRoundDone, SequenceEnded, RolloutProgress, SequenceState,
                 Drain>;

struct WorkerReported {
  ConnectionId connection = 0;
  Fence fence;
  ReportItem item;
};

// The outbound queue of a worker's stream was full: what was sent may not arrive.
struct WorkerQueueFull {
  ConnectionId connection = 0;
};

struct DrainRequested {};  // SIGTERM: refuse new requests, let live ones finish

struct TimePassed {};  // NextDeadline() was reached

using Event = std::variant<Submitted, Cancelled, WorkerAttached, WorkerDetached, WorkerReported,
                           WorkerQueueFull, DrainRequested, TimePassed>;

// ---- actions --------------------------------------------------------------------------------------

struct WelcomeWorker {
  ConnectionId connection = 0;
  Welcome welcome;
};

struct RefuseWorker {
  ConnectionId connection = 0;
  Refused refused;
};

struct CloseWorker {
  ConnectionId connection = 0;
  std::string reason;
};

struct SendToWorker {
  ConnectionId connection = 0;
  Fence fence;
  WorkerCommand command;
  ConnectionId stream = 0;  // with StartSequence: whose request it is; so that stories can be told
};

// Tokens for a request; with `committed.finish` set it is the stream's last message, sent with status OK.
struct CommitTokens {
  ConnectionId stream = 0;
  Committed committed;
};

// Ends a stream without a finish: refused at admission, or failed. Sent once and last.
struct FailRequest {
  ConnectionId stream = 0;
  absl::Status status;
};

using Action = std::variant<WelcomeWorker, RefuseWorker, CloseWorker, SendToWorker, CommitTokens,
                            FailRequest>;

}  // namespace mirrorsd::scheduler
