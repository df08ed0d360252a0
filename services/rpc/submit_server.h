#pragma once
// The scheduler's side of the Scheduling service: one reactor per Submit stream. It decodes and validates,
// and hands what came to the handler; what goes out waits in a queue per stream, bounded in tokens, whose
// waiting parts are merged into one message. A client that reads too slowly loses its own stream
// (RESOURCE_EXHAUSTED, SLOW_CLIENT) and nothing else. Not a scheduler: it decides nothing.
//
// Thread rule: Send and Fail from any thread; the handler is called from gRPC's threads and must not block.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/request.h"
#include "services/wire/cell_description.h"

namespace grpc {
class Service;
}

namespace mirrorsd::rpc {

class SubmitHandler {
 public:
  virtual ~SubmitHandler() = default;
  // False: no room; the stream is ended as overloaded and nothing more is said of it.
  virtual bool OnSubmit(ConnectionId stream, SubmitRequest request) = 0;
  // The client left, or was too slow, before the stream's end was sent. At most once, after OnSubmit.
  virtual void OnCancelled(ConnectionId stream) = 0;
  // `reply` is called once, later and from any thread; with null where there will be no answer. False: no
  // room, and `reply` is not called.
  virtual bool OnDescribe(std::function<void(const CellDescription*)> reply) = 0;
};

struct SubmitServerOptions {
  size_t max_streams = 8192;         // live Submit streams; more are refused as overloaded
  size_t max_pending_tokens = 4096;  // of one stream, not yet taken by its client
  // How long the end of a stream may wait for a client that does not read, before it is cut off.
  absl::Duration slow_client_grace = absl::Seconds(5);
};

class SubmitServer {
 public:
  // `handler` outlives the gRPC server that the service is registered with.
  SubmitServer(SubmitHandler* handler, SubmitServerOptions options);
  ~SubmitServer();
  SubmitServer(const SubmitServer&) = delete;
  SubmitServer& operator=(const SubmitServer&) = delete;

  grpc::Service* service();

  // With `committed.finish` set, ends the stream with OK behind it. A stream that is gone is a no-op.
  void Send(ConnectionId stream, const Committed& committed);

  // Ends the stream with an error, behind what was sent before.
  void Fail(ConnectionId stream, const absl::Status& status);

  // Ends all streams with an error: the process goes.
  void FailAll(const absl::Status& status);

  size_t num_streams() const;

 private:
  class State;
  std::shared_ptr<State> state_;
};

}  // namespace mirrorsd::rpc
