#pragma once
// A client of mirrorsd.v1.Inference: one Generate at a time, as a blocking call that can be cancelled.
// Thread rule: Generate and Wait from one thread, Cancel from any.

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "mirrorsd/v1/inference.grpc.pb.h"

namespace mirrorsd::cli {

class InferenceClient {
 public:
  explicit InferenceClient(std::shared_ptr<grpc::Channel> channel);
  static std::unique_ptr<InferenceClient> Dial(const std::string& address);

  // `on_delta` is called for each message, in order, before the next is read.
  // Errors:  the server's, with its ErrorInfo; CANCELLED after Cancel; UNAVAILABLE where none answers
  absl::StatusOr<v1::GenerateFinal> Generate(
      const v1::GenerateRequest& request, absl::Duration timeout,
      const std::function<void(const v1::GenerateResponse&)>& on_delta);

  absl::StatusOr<v1::GetServerInfoResponse> GetServerInfo(absl::Duration timeout);

  // Ends the Generate that runs, if one does. Returns whether one did.
  bool Cancel();

 private:
  const std::unique_ptr<v1::Inference::Stub> stub_;
  std::mutex mutex_;
  grpc::ClientContext* running_ = nullptr;  // guarded by mutex_
};

}  // namespace mirrorsd::cli
