#include "services/rpc/attach_client.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <variant>

#include "common/check.h"
#include "common/error.h"
#include "grpcpp/channel.h"
#include "mirrorsd/internal/v1/fleet.grpc.pb.h"
#include "services/runtime/clock.h"
#include "services/wire/fleet_wire.h"
#include "services/wire/status_wire.h"

namespace mirrorsd::rpc {
namespace {

namespace pb = ::mirrorsd::internal::v1;

constexpr int kBatchReports = 4096;  // of one message

// What ended a stream, as the listener is told. Only a refusal can be for good; a stream that ended in
// another way, be it by a message that did not validate, may go better the next time.
absl::Status DetachStatus(const absl::Status& status, bool refused) {
  std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (!info.has_value()) {
    return Unavailable("SCHEDULER_LOST",
                       status.ok() ? "the scheduler closed the stream" : status.message());
  }
  if (refused) return status;
  info->retryable = true;
  return MakeError(status.code(), status.message(), *info);
}

// One dialled stream. Owned by the client's State until its OnDone.
class AttachStream final : public grpc::ClientBidiReactor<pb::WorkerMessage, pb::SchedulerMessage> {
 public:
  struct Events {
    std::function<void(const Fence&)> on_welcome;
    std::function<bool(const Fence&, std::vector<WorkerCommand>)> on_commands;
    std::function<void(const absl::Status&)> on_done;
  };

  AttachStream(std::shared_ptr<grpc::Channel> channel, size_t max_pending_reports, Events events)
      : channel_(std::move(channel)),
        stub_(pb::Fleet::NewStub(channel_)),
        max_pending_reports_(max_pending_reports),
        events_(std::move(events)) {}

  void Begin(const Hello& hello) {
    stub_->async()->Attach(&context_, this);
    AddHold();  // sends come from outside of the reactions
    std::lock_guard<std::mutex> lock(mutex_);
    wire::Write(hello, waiting_.emplace_back().mutable_hello());
    Pump();
    StartRead(&incoming_);
    StartCall();
  }

  void Send(const Fence& fence, const std::vector<WorkerReport>& reports) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_ || fence_ != fence) return;
    for (const WorkerReport& report : reports) {
      if (waiting_.empty() || waiting_.back().has_hello() ||
          waiting_.back().reports_size() >= kBatchReports) {
        waiting_.emplace_back();
        waiting_.back().set_scheduler_epoch(fence.scheduler_epoch);
        waiting_.back().set_incarnation(fence.incarnation);
      }
      wire::Write(report, waiting_.back().add_reports());
    }
    if (waiting_.size() * kBatchReports > max_pending_reports_ + kBatchReports) {
      return CloseLocked(Unavailable("QUEUE_FULL", "the scheduler does not take our reports"));
    }
    Pump();
  }

  // Ends the stream from this side; on_done follows.
  void Close(const absl::Status& status) {
    std::lock_guard<std::mutex> lock(mutex_);
    CloseLocked(status);
  }

  // Of the Welcome, while the stream is open.
  std::optional<Fence> fence() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return closed_ ? std::nullopt : fence_;
  }

  void OnReadDone(bool ok) override {
    if (ok) {
      const absl::Status status = TakeMessage();
      if (status.ok()) {
        StartRead(&incoming_);
        return;
      }
      Close(status);
    }
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    waiting_.clear();
    RemoveHold();  // no write is started from now on
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    if (!ok) waiting_.clear();
    Pump();
  }

  void OnDone(const grpc::Status& status) override {
    absl::Status end;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      closed_ = true;
      end = DetachStatus(own_end_.has_value() ? *own_end_ : wire::FromGrpcStatus(status), refused_);
    }
    const auto on_done = events_.on_done;  // it destroys this stream
    on_done(end);
  }

 private:
  absl::Status TakeMessage() {
    absl::StatusOr<wire::FromScheduler> message = wire::Parse(incoming_);
    if (!message.ok()) return message.status();
    if (const auto* refused = std::get_if<Refused>(&message->content)) {
      std::lock_guard<std::mutex> lock(mutex_);
      refused_ = true;
      return MakeError(absl::StatusCode::kFailedPrecondition, refused->message,
                       {.reason = refused->reason, .retryable = refused->retryable});
    }
    if (const auto* welcome = std::get_if<Welcome>(&message->content)) {
      const Fence fence{welcome->scheduler_epoch, welcome->incarnation};
      {
        std::lock_guard<std::mutex> lock(mutex_);
        if (fence_.has_value()) return InvalidField("welcome", "came a second time");
        if (closed_) return absl::OkStatus();
        fence_ = fence;
      }
      events_.on_welcome(fence);
      return absl::OkStatus();
    }
    const std::optional<Fence> own = fence();
    auto& commands = std::get<std::vector<WorkerCommand>>(message->content);
    if (own != message->fence || commands.empty()) return absl::OkStatus();
    if (!events_.on_commands(message->fence, std::move(commands))) {
      return Unavailable("MAILBOX_FULL", "the worker's mailbox is full");
    }
    return absl::OkStatus();
  }

  void CloseLocked(const absl::Status& status) {
    if (!own_end_.has_value() && !closed_) own_end_ = status;
    closed_ = true;
    waiting_.clear();
    context_.TryCancel();
  }

  // A second StartWrite before OnWriteDone would abort the process, hence `writing_`.
  void Pump() {
    if (writing_ || closed_ || waiting_.empty()) return;
    message_ = std::move(waiting_.front());
    waiting_.pop_front();
    writing_ = true;
    StartWrite(&message_);
  }

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<pb::Fleet::Stub> stub_;
  const size_t max_pending_reports_;
  const Events events_;
  grpc::ClientContext context_;
  pb::SchedulerMessage incoming_;

  mutable std::mutex mutex_;
  // All below guarded by mutex_.
  std::deque<pb::WorkerMessage> waiting_;
  pb::WorkerMessage message_;  // while writing_: gRPC's
  bool writing_ = false;
  bool closed_ = false;
  bool refused_ = false;
  std::optional<Fence> fence_;  // once welcome
  std::optional<absl::Status> own_end_;
};

}  // namespace

class AttachClient::State : public std::enable_shared_from_this<State> {
 public:
  State(AttachListener* listener, AttachClientOptions options)
      : listener_(listener),
        options_(std::move(options)),
        backoff_(options_.backoff, options_.random ? options_.random : HostRandom()) {
    CHECK(options_.channel != nullptr && options_.heartbeat != nullptr);
  }

  void Start() {
    thread_ = std::thread([this] { Run(); });
  }

  void Dial(Hello hello) {
    std::lock_guard<std::mutex> lock(mutex_);
    hello_ = std::move(hello);
    changed_.notify_all();
  }

  void Send(const Fence& fence, const std::vector<WorkerReport>& reports) {
    std::shared_ptr<AttachStream> stream;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stream = stream_;
    }
    if (stream != nullptr) stream->Send(fence, reports);
  }

  void Stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }

 private:
  static std::function<uint64_t()> HostRandom() {
    auto device = std::make_shared<std::random_device>();
    return [device] { return (uint64_t{(*device)()} << 32) | (*device)(); };
  }

  void Run() {
    pthread_setname_np(pthread_self(), "attach");
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stopping_) {
      const absl::Time now = runtime::MonotonicNow();
      if (stream_ == nullptr) {
        const absl::Time dial_at = hello_.has_value() ? dial_at_ : absl::InfiniteFuture();
        if (dial_at <= now) {
          DialNow(now);
        } else {
          WaitUntil(&lock, dial_at);
        }
        continue;
      }
      if (now < wake_at_) {
        WaitUntil(&lock, wake_at_);
        continue;
      }
      const std::shared_ptr<AttachStream> stream = stream_;
      lock.unlock();
      const std::optional<Fence> fence = stream->fence();
      if (fence.has_value()) {
        stream->Send(*fence, {options_.heartbeat()});
      } else {
        stream->Close(Unavailable("NO_WELCOME", "the scheduler did not answer in time"));
      }
      lock.lock();
      // After a while of attachment, not at the Welcome: the stream may be closed at once.
      if (fence.has_value()) backoff_.Reset();
      wake_at_ = now + options_.heartbeat_interval;
    }
    if (stream_ != nullptr) {
      const std::shared_ptr<AttachStream> stream = stream_;
      lock.unlock();
      stream->Close(absl::CancelledError("the worker stops"));
      lock.lock();
    }
    while (stream_ != nullptr) changed_.wait(lock);
  }

  void WaitUntil(std::unique_lock<std::mutex>* lock, absl::Time deadline) {
    const absl::Duration wait =
        std::min<absl::Duration>(deadline - runtime::MonotonicNow(), absl::Hours(1));
    if (wait > absl::ZeroDuration()) changed_.wait_for(*lock, absl::ToChronoNanoseconds(wait));
  }

  // With mutex_ held. The stream's events take it too, on other threads.
  void DialNow(absl::Time now) {
    const std::shared_ptr<State> self = shared_from_this();
    stream_ = std::make_shared<AttachStream>(
        options_.channel(), options_.max_pending_reports,
        AttachStream::Events{
            .on_welcome = [self](const Fence& fence) { self->OnWelcome(fence); },
            .on_commands =
                [self](const Fence& fence, std::vector<WorkerCommand> commands) {
                  return self->listener_->OnCommands(fence, std::move(commands));
                },
            .on_done = [self](const absl::Status& status) { self->OnDone(status); }});
    wake_at_ = now + options_.welcome_timeout;
    const Hello hello = *std::exchange(hello_, std::nullopt);
    stream_->Begin(hello);
  }

  void OnWelcome(const Fence& fence) {
    listener_->OnWelcome(fence);
    std::lock_guard<std::mutex> lock(mutex_);
    wake_at_ = runtime::MonotonicNow() + options_.heartbeat_interval;
    changed_.notify_all();
  }

  void OnDone(const absl::Status& status) {
    std::shared_ptr<AttachStream> stream;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      dial_at_ = runtime::MonotonicNow() + backoff_.Next();
    }
    listener_->OnDetached(status);
    std::lock_guard<std::mutex> lock(mutex_);
    stream = std::move(stream_);  // destroyed after the lock
    stream_ = nullptr;
    changed_.notify_all();
  }

  AttachListener* const listener_;
  const AttachClientOptions options_;
  std::thread thread_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // All below guarded by mutex_.
  runtime::Backoff backoff_;
  std::optional<Hello> hello_;  // to dial with
  absl::Time dial_at_ = absl::InfinitePast();
  absl::Time wake_at_ = absl::InfiniteFuture();  // of a stream: heartbeat, or the end of patience
  std::shared_ptr<AttachStream> stream_;
  bool stopping_ = false;
};

AttachClient::AttachClient(AttachListener* listener, AttachClientOptions options)
    : state_(std::make_shared<State>(listener, std::move(options))) {
  KeepCallbackThreads();
  state_->Start();
}

AttachClient::~AttachClient() { Stop(); }

void AttachClient::Dial(Hello hello) { state_->Dial(std::move(hello)); }

void AttachClient::Send(const Fence& fence, std::vector<WorkerReport> reports) {
  state_->Send(fence, reports);
}

void AttachClient::Stop() { state_->Stop(); }

}  // namespace mirrorsd::rpc
