#pragma once
// A worker's side of its Attach stream: dials, says Hello, waits for Welcome, carries batches either way,
// sends heartbeats from a thread of its own (they go on during a long computation), and dials again with
// backoff. Not a session: it keeps no sequence. The fence of the Welcome is on everything sent; what comes
// with another is dropped here.
//
// One life:  Dial(hello) -> OnWelcome -> OnCommands... -> OnDetached -> Dial(hello) ...
// The client dials only when it was given a fresh Hello, so that the session can drop its state first.
//
// Thread rule: the methods from any thread; the listener is called from gRPC's threads and the client's
// own and must not block; after OnDetached nothing of that attachment comes any more.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/worker_messages.h"
#include "services/rpc/channel.h"
#include "services/runtime/backoff.h"

namespace mirrorsd::rpc {

class AttachListener {
 public:
  virtual ~AttachListener() = default;
  virtual void OnWelcome(const Fence& fence) = 0;
  // One message's commands, in order. False: no room; the stream is dropped and OnDetached follows.
  virtual bool OnCommands(const Fence& fence, std::vector<WorkerCommand> commands) = 0;
  // This dial or this attachment is over. Non-retryable (its ErrorInfo says so) where the scheduler
  // refused for good: dialling again would be answered likewise. Exactly once per Dial.
  virtual void OnDetached(const absl::Status& status) = 0;
};

struct AttachClientOptions {
  ChannelFactory channel;
  runtime::BackoffOptions backoff;
  std::function<uint64_t()> random;  // jitter of the backoff; empty: the host's randomness
  absl::Duration heartbeat_interval = absl::Seconds(1);
  absl::Duration welcome_timeout = absl::Seconds(10);  // from dialling to Welcome
  size_t max_pending_reports = 65536;                  // not yet taken by gRPC; more drop the stream
  std::function<Heartbeat()> heartbeat;                // from the client's thread
};

class AttachClient {
 public:
  // `listener` outlives the client.
  AttachClient(AttachListener* listener, AttachClientOptions options);
  ~AttachClient();
  AttachClient(const AttachClient&) = delete;
  AttachClient& operator=(const AttachClient&) = delete;

  // Starts to dial, after the backoff that earlier failures earned. Legal at the start and after each
  // OnDetached (also from within it).
  void Dial(Hello hello);

  // Queues reports of the attachment `fence`; of another they are dropped. Never blocks.
  void Send(const Fence& fence, std::vector<WorkerReport> reports);

  // Ends the stream and the thread; waits until nothing calls the listener any more. Idempotent. Not to
  // be called from the listener.
  void Stop();

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace mirrorsd::rpc
