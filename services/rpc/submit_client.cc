#include "services/rpc/submit_client.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>

#include "common/error.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "mirrorsd/internal/v1/scheduling.grpc.pb.h"
#include "services/rpc/channel.h"
#include "services/wire/scheduling_wire.h"
#include "services/wire/status_wire.h"

namespace mirrorsd::rpc {
namespace {

namespace pb = ::mirrorsd::internal::v1;

// A status of the transport, not of the scheduler, gets its reason here.
absl::Status WithReason(const absl::Status& status) {
  if (status.ok() || GetErrorInfo(status).has_value()) return status;
  switch (status.code()) {
    case absl::StatusCode::kCancelled:
      return MakeError(status.code(), status.message(), {.reason = "CANCELLED"});
    case absl::StatusCode::kUnavailable:
      return Unavailable("SCHEDULER_LOST", status.message());
    case absl::StatusCode::kDeadlineExceeded:
      return MakeError(status.code(), status.message(),
                       {.reason = "NO_ANSWER", .retryable = true});
    case absl::StatusCode::kResourceExhausted:
      return MakeError(status.code(), status.message(), {.reason = "MESSAGE_TOO_LARGE"});
    default:
      return MakeError(status.code(), status.message(), {.reason = "SCHEDULER_ERROR"});
  }
}

}  // namespace

class SubmitClient::State {
 public:
  explicit State(std::shared_ptr<grpc::Channel> channel)
      : channel(std::move(channel)), stub(pb::Scheduling::NewStub(this->channel)) {}

  class Stream;

  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<pb::Scheduling::Stub> stub;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<Stream*, std::shared_ptr<Stream>> live;  // guarded by mutex
};

class SubmitClient::State::Stream final : public SubmitClient::Call,
                                          public grpc::ClientReadReactor<pb::Committed> {
 public:
  Stream(std::shared_ptr<State> state, const SubmitRequest& request, SubmitCallbacks callbacks)
      : state_(std::move(state)), callbacks_(std::move(callbacks)) {
    wire::Write(request, &request_);
  }

  void Begin() {
    state_->stub->async()->Submit(&context_, &request_, this);
    StartRead(&incoming_);
    StartCall();
  }

  // Legal at any time while this object lives, after the end too.
  void Cancel() override {
    cancelled_.store(true);
    context_.TryCancel();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;  // OnDone follows
    absl::StatusOr<Committed> committed = wire::Parse(incoming_);
    if (!committed.ok()) {
      bad_answer_ = committed.status();
      Cancel();
      return;
    }
    finished_ = committed->finish != FinishReason::kNone;
    callbacks_.on_committed(*std::move(committed));
    StartRead(&incoming_);
  }

  void OnDone(const grpc::Status& status) override {
    absl::Status end = WithReason(wire::FromGrpcStatus(status));
    if (end.code() == absl::StatusCode::kCancelled && !cancelled_.load()) {
      // gRPC's word for a call that came while the server was shutting down.
      end = Unavailable("SCHEDULER_LOST", "the scheduler went as the request came");
    }
    if (!bad_answer_.ok()) {
      end = MakeError(absl::StatusCode::kInternal, bad_answer_.message(),
                      {.reason = "BAD_ANSWER"});
    } else if (end.ok() && !finished_) {
      end = Unavailable("SCHEDULER_LOST", "the stream ended without a finish");
    }
    const std::shared_ptr<State> state = state_;
    std::exchange(callbacks_, {}).on_done(std::move(end));
    std::shared_ptr<Stream> self;  // destroyed last
    std::lock_guard<std::mutex> lock(state->mutex);
    const auto found = state->live.find(this);
    self = std::move(found->second);
    state->live.erase(found);
    state->changed.notify_all();
  }

 private:
  const std::shared_ptr<State> state_;
  SubmitCallbacks callbacks_;
  pb::SubmitRequest request_;
  pb::Committed incoming_;
  grpc::ClientContext context_;
  std::atomic<bool> cancelled_{false};  // by us
  bool finished_ = false;
  absl::Status bad_answer_;
};

SubmitClient::SubmitClient(std::shared_ptr<grpc::Channel> channel)
    : state_(std::make_shared<State>(std::move(channel))) {
  KeepCallbackThreads();
}

SubmitClient::~SubmitClient() {
  std::unique_lock<std::mutex> lock(state_->mutex);
  for (const auto& [key, stream] : state_->live) stream->Cancel();
  state_->changed.wait(lock, [this] { return state_->live.empty(); });
}

std::shared_ptr<SubmitClient::Call> SubmitClient::Submit(const SubmitRequest& request,
                                                         SubmitCallbacks callbacks) {
  auto stream = std::make_shared<State::Stream>(state_, request, std::move(callbacks));
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->live.emplace(stream.get(), stream);
  }
  stream->Begin();
  return stream;
}

absl::StatusOr<CellDescription> SubmitClient::DescribeCell(absl::Duration timeout) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  pb::DescribeCellResponse response;
  const grpc::Status status = state_->stub->DescribeCell(&context, {}, &response);
  if (!status.ok()) return WithReason(wire::FromGrpcStatus(status));
  return wire::Parse(response);
}

}  // namespace mirrorsd::rpc
