#pragma once
// The gateway's way to a scheduler: requests out, committed tokens back. It knows token ids only. Not a
// queue: what arrives is handed on at once, from gRPC's threads, so the callbacks must not block.
//
// Thread rule: any thread. Callbacks of one call come one at a time and in order.

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/request.h"
#include "services/wire/cell_description.h"

namespace grpc {
class Channel;
}

namespace mirrorsd::rpc {

struct SubmitCallbacks {
  // Each in order of output_index; several of the scheduler's may come merged in one. `finish` is set on
  // the last one of a request that ended well.
  std::function<void(Committed)> on_committed;
  // Once and last. OK iff a Committed with `finish` came before; otherwise the scheduler's error with its
  // ErrorInfo, CANCELLED after Cancel(), UNAVAILABLE (retryable) where the scheduler was lost.
  std::function<void(absl::Status)> on_done;
};

class SubmitClient {
 public:
  explicit SubmitClient(std::shared_ptr<grpc::Channel> channel);
  // Cancels what still runs and waits for its on_done. Not to be called from a callback.
  ~SubmitClient();
  SubmitClient(const SubmitClient&) = delete;
  SubmitClient& operator=(const SubmitClient&) = delete;

  // One request on its way. Holding it keeps nothing alive; dropping it does not cancel.
  class Call {
   public:
    virtual ~Call() = default;
    // Aborts the request. on_done still comes. Idempotent, callable from callbacks.
    virtual void Cancel() = 0;
  };

  // Never fails at once: what is wrong comes by on_done, perhaps before this returns.
  std::shared_ptr<Call> Submit(const SubmitRequest& request, SubmitCallbacks callbacks);

  // Blocks up to `timeout`. Errors: UNAVAILABLE, DEADLINE_EXCEEDED, or a bad answer.
  absl::StatusOr<CellDescription> DescribeCell(absl::Duration timeout);

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace mirrorsd::rpc
