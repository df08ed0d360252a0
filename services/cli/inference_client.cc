#include "services/cli/inference_client.h"

#include <utility>

#include "grpcpp/channel.h"
#include "services/rpc/channel.h"
#include "services/wire/status_wire.h"

namespace mirrorsd::cli {

InferenceClient::InferenceClient(std::shared_ptr<grpc::Channel> channel)
    : stub_(v1::Inference::NewStub(std::move(channel))) {}

std::unique_ptr<InferenceClient> InferenceClient::Dial(const std::string& address) {
  return std::make_unique<InferenceClient>(rpc::DialChannel(address));
}

absl::StatusOr<v1::GenerateFinal> InferenceClient::Generate(
    const v1::GenerateRequest& request, absl::Duration timeout,
    const std::function<void(const v1::GenerateResponse&)>& on_delta) {
  grpc::ClientContext context;
  if (timeout < absl::InfiniteDuration()) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    running_ = &context;
  }
  v1::GenerateFinal final;
  bool has_final = false;
  const auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    on_delta(response);
    if (response.has_final()) {
      final = response.final();
      has_final = true;
    }
  }
  const absl::Status status = wire::FromGrpcStatus(reader->Finish());
  {
    std::lock_guard<std::mutex> lock(mutex_);
    running_ = nullptr;
  }
  if (!status.ok()) return status;
  if (!has_final) return absl::InternalError("the server ended the stream without a final message");
  return final;
}

absl::StatusOr<v1::GetServerInfoResponse> InferenceClient::GetServerInfo(absl::Duration timeout) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  v1::GetServerInfoResponse info;
  const grpc::Status status = stub_->GetServerInfo(&context, v1::GetServerInfoRequest(), &info);
  if (!status.ok()) return wire::FromGrpcStatus(status);
  return info;
}

bool InferenceClient::Cancel() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (running_ != nullptr) running_->TryCancel();
  return running_ != nullptr;
}

}  // namespace mirrorsd::cli
