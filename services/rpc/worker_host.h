#pragma once
// What both kinds of worker process are made of: an actor that owns a session (commands in, work, reports
// out) and the Attach client that carries both. Between two units of work it looks at its mailbox; with no
// work it sleeps. A new attachment resets the session. Not a session, and not a process: no signals, no
// model loading.
//
// Thread rule: the methods from any thread, Stop and the destructor not from a session's function. The
// session's functions run on the actor's thread, but for `heartbeat`, which runs on the client's.

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/worker_messages.h"
#include "services/rpc/attach_client.h"
#include "services/runtime/actor.h"

namespace mirrorsd::rpc {

// A session by its verbs; their meaning as in workers/verifier/verifier_session.h.
struct HostedSession {
  std::function<Hello()> make_hello;
  std::function<void()> reset;
  std::function<void(WorkerCommand)> handle;
  std::function<bool()> has_work;
  std::function<void(const std::function<void(WorkerReport)>& emit)> work;
  std::function<int64_t()> num_sequences;  // from any thread
  std::function<Heartbeat()> heartbeat;    // from any thread
};

class WorkerHost final : private AttachListener {
 public:
  // `client.heartbeat` is the session's; leave it empty.
  WorkerHost(HostedSession session, AttachClientOptions client);
  ~WorkerHost() override;

  void Start();

  // No new sequences; once the live ones have ended, the host is over with OK.
  void Drain();

  // Waits until the host is over: refused for good by the scheduler (that status), drained (OK), or
  // stopped (CANCELLED). None: `timeout` passed first.
  std::optional<absl::Status> WaitUntilOver(absl::Duration timeout);

  // Ends stream and threads. Idempotent.
  void Stop();

  bool is_attached() const { return attached_.load(); }
  // Why it is not attached; empty while it is, and before the first attempt has ended.
  std::string detached_because() const;
  uint64_t num_attachments() const { return num_attachments_.load(); }  // Welcomes so far

 private:
  struct Welcomed {
    Fence fence;
  };
  struct Commanded {
    Fence fence;
    std::vector<WorkerCommand> commands;
  };
  struct Detached {
    absl::Status status;
  };
  struct DrainAsked {};
  using Message = std::variant<Welcomed, Commanded, Detached, DrainAsked>;

  void OnWelcome(const Fence& fence) override;
  bool OnCommands(const Fence& fence, std::vector<WorkerCommand> commands) override;
  void OnDetached(const absl::Status& status) override;

  void Take(Message&& message);
  void TakeDetached(const absl::Status& status);
  void WorkOnce();
  void EndIfDrained();
  void SetOver(const absl::Status& status);

  const HostedSession session_;
  runtime::Actor<Message> actor_;
  std::unique_ptr<AttachClient> client_;
  std::atomic<bool> attached_{false};
  std::atomic<uint64_t> num_attachments_{0};
  std::atomic<size_t> waiting_tokens_{0};  // of commands that the session was not given yet

  // The actor's own.
  std::optional<Fence> fence_;
  bool draining_ = false;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<absl::Status> over_;  // guarded by mutex_
  std::string detached_because_;      // guarded by mutex_
};

}  // namespace mirrorsd::rpc
