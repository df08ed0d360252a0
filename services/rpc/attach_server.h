#pragma once
// The scheduler's side of the Fleet service: one reactor per Attach stream. It decodes, validates and hands
// on; what goes out waits in a bounded queue per stream, and everything that waits leaves as one message.
// Not the fleet: whether a worker is welcome, late or lost is decided elsewhere. A message that does not
// validate closes its own stream with that error.
//
// Thread rule: Greet, Refuse, Send, Flush, Close from any thread, those of one connection in one order (one
// thread); the handler is called from gRPC's threads and must not block.

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/worker_messages.h"

namespace grpc {
class Service;
}

namespace mirrorsd::rpc {

// Kept by whoever has not dealt with a message's reports yet; letting go of it tells that they were dealt with.
using Receipt = std::shared_ptr<void>;

class AttachHandler {
 public:
  virtual ~AttachHandler() = default;
  // False: no room; the stream is ended as overloaded and nothing more is said of it.
  virtual bool OnHello(ConnectionId connection, Hello hello) = 0;
  // One message's reports, in order. False: no room; the stream is ended and OnDetached follows.
  virtual bool OnReports(ConnectionId connection, Fence fence, std::vector<WorkerReport> reports,
                         Receipt receipt) = 0;
  // The stream is gone, for whatever reason. Exactly once after an OnHello that was taken; last.
  virtual void OnDetached(ConnectionId connection, const std::string& reason) = 0;
};

struct AttachServerOptions {
  size_t max_streams = 512;             // live Attach streams; more are refused as overloaded
  size_t max_pending_commands = 16384;  // of one stream, not yet taken by gRPC
  size_t max_pending_bytes = 64 << 20;  // likewise, encoded
  // Reports of one stream that were not dealt with; a message counts as 64 more.
  // A worker that sends more than is taken loses its own stream, before it fills what all share.
  size_t max_waiting_reports = 1 << 18;
  absl::Duration hello_timeout = absl::Seconds(10);
  // How long the end of a stream may wait for a worker that does not read, before it is cut off.
  absl::Duration end_grace = absl::Seconds(1);
};

class AttachServer {
 public:
  // `handler` outlives the gRPC server that the service is registered with.
  AttachServer(AttachHandler* handler, AttachServerOptions options);
  ~AttachServer();
  AttachServer(const AttachServer&) = delete;
  AttachServer& operator=(const AttachServer&) = delete;

  grpc::Service* service();

  // The answer to a Hello, once. A connection that is gone is a no-op here and below.
  void Greet(ConnectionId connection, const Welcome& welcome);
  void Refuse(ConnectionId connection, const Refused& refused);  // and ends the stream

  // Queues a command; Flush lets what was queued go, as one message. False: the queue was full and the
  // command is dropped; the stream is late. True where the connection is gone: its OnDetached is on its way.
  bool Send(ConnectionId connection, const Fence& fence, const WorkerCommand& command);
  void Flush(ConnectionId connection);

  // Ends the stream with `status`, at once: what waits is dropped. OnDetached follows.
  void Close(ConnectionId connection, const absl::Status& status);
  void CloseAll(const absl::Status& status);

  size_t num_streams() const;

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace mirrorsd::rpc
