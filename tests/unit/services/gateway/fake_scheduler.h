#pragma once
// A scheduler that does what a test tells it, behind a real gRPC server in this process. Thread-safe.

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "grpcpp/grpcpp.h"
#include "services/rpc/submit_server.h"

namespace mirrorsd::gateway {

class FakeScheduler final : public rpc::SubmitHandler {
 public:
  explicit FakeScheduler(CellDescription cell);
  ~FakeScheduler() override;

  std::shared_ptr<grpc::Channel> Channel() { return server_->InProcessChannel({}); }

  // Waits for the n-th Submit (from 0) and returns it with its stream.
  std::pair<ConnectionId, SubmitRequest> WaitForSubmit(size_t n);
  bool WaitForCancel(ConnectionId stream);

  void SetCell(const CellDescription& cell);
  // Commits tokens; `finish` ends the stream.
  void Commit(ConnectionId stream, std::vector<TokenId> ids, FinishReason finish);
  void Fail(ConnectionId stream, const absl::Status& status) { submit_.Fail(stream, status); }

 private:
  bool OnSubmit(ConnectionId stream, SubmitRequest request) override;
  void OnCancelled(ConnectionId stream) override;
  bool OnDescribe(std::function<void(const CellDescription*)> reply) override;

  std::mutex mutex_;
  std::condition_variable changed_;
  CellDescription cell_;
  std::vector<std::pair<ConnectionId, SubmitRequest>> submitted_;
  std::vector<ConnectionId> cancelled_;
  rpc::SubmitServer submit_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace mirrorsd::gateway
