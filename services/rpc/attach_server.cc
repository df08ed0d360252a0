#include "services/rpc/attach_server.h"

#include <atomic>
#include <map>
#include <mutex>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "grpcpp/alarm.h"
#include "mirrorsd/internal/v1/fleet.grpc.pb.h"
#include "services/rpc/outbox.h"
#include "services/wire/fleet_wire.h"

namespace mirrorsd::rpc {
namespace {

namespace pb = ::mirrorsd::internal::v1;
using Reactor = grpc::ServerBidiReactor<pb::WorkerMessage, pb::SchedulerMessage>;
using AttachOutbox = Outbox<Reactor, pb::SchedulerMessage>;

// What waits is cut into messages of about this size: far below the limit, far above the overhead.
constexpr size_t kBatchBytes = 1 << 20;
constexpr int kBatchCommands = 8192;

// What a message costs beside its reports, in reports.
constexpr size_t kReportsPerMessage = 64;

}  // namespace

class AttachServer::State final : public pb::Fleet::CallbackService,
                                  public std::enable_shared_from_this<State> {
 public:
  State(AttachHandler* handler, AttachServerOptions options)
      : handler(handler), options(options) {}

  Reactor* Attach(grpc::CallbackServerContext* context) override;

  class Stream;
  std::shared_ptr<Stream> Find(ConnectionId connection) const {
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = streams.find(connection);
    return found == streams.end() ? nullptr : found->second;
  }

  AttachHandler* const handler;
  const AttachServerOptions options;
  mutable std::mutex mutex;
  std::map<ConnectionId, std::shared_ptr<Stream>> streams;  // guarded by mutex
  ConnectionId next_connection = 1;                         // guarded by mutex
};

class AttachServer::State::Stream final : public Reactor,
                                          public std::enable_shared_from_this<Stream> {
 public:
  Stream(std::shared_ptr<State> state, ConnectionId connection,
         grpc::CallbackServerContext* context)
      : state_(std::move(state)),
        connection_(connection),
        outbox_(std::make_shared<AttachOutbox>(this, context, state_->options.end_grace)) {}

  void Begin() {
    hello_timer_.Set(absl::ToChronoTime(absl::Now() + state_->options.hello_timeout),
                     [weak = weak_from_this()](bool expired) {
                       const auto self = expired ? weak.lock() : nullptr;
                       if (self != nullptr && !self->greeted_.load()) {
                         self->outbox_->End(absl::DeadlineExceededError("no hello came in time"),
                                            /*drop_waiting=*/true);
                       }
                     });
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      outbox_->End(absl::CancelledError("the worker closed the stream"), /*drop_waiting=*/true);
      return;
    }
    const absl::Status status = TakeMessage();
    if (status.ok()) {
      StartRead(&incoming_);
    } else {
      outbox_->End(status, /*drop_waiting=*/true);
    }
  }

  void OnWriteDone(bool ok) override { outbox_->OnWriteDone(ok); }

  void OnDone() override {
    const std::shared_ptr<Stream> self = shared_from_this();
    outbox_->OnDone();
    hello_timer_.Cancel();
    {
      std::lock_guard<std::mutex> lock(state_->mutex);
      state_->streams.erase(connection_);
    }
    if (attached_) {
      state_->handler->OnDetached(connection_, std::string(outbox_->end().message()));
    }
  }

  bool Queue(const Fence& fence, const WorkerCommand& command) {
    return outbox_->Change([&](std::deque<pb::SchedulerMessage>* waiting) {
      if (IsFull(*waiting)) return false;
      if (waiting->empty() || !CanTakeMore(waiting->back(), fence)) {
        waiting->emplace_back();
        waiting->back().set_scheduler_epoch(fence.scheduler_epoch);
        waiting->back().set_incarnation(fence.incarnation);
        batch_bytes_ = 0;
      }
      pb::WorkerCommand* out = waiting->back().add_commands();
      wire::Write(command, out);
      batch_bytes_ += out->ByteSizeLong();
      return true;
    });
  }

  AttachOutbox& outbox() { return *outbox_; }

 private:
  // All messages that wait but the last are full, of about kBatchBytes each or kBatchCommands.
  bool IsFull(const std::deque<pb::SchedulerMessage>& waiting) const {
    size_t num_commands = 0;
    for (const pb::SchedulerMessage& message : waiting) num_commands += message.commands_size();
    return num_commands >= state_->options.max_pending_commands ||
           waiting.size() * kBatchBytes > state_->options.max_pending_bytes;
  }

  bool CanTakeMore(const pb::SchedulerMessage& message, const Fence& fence) const {
    return message.greeting_case() == pb::SchedulerMessage::GREETING_NOT_SET &&
           message.scheduler_epoch() == fence.scheduler_epoch &&
           message.incarnation() == fence.incarnation && batch_bytes_ < kBatchBytes &&
           message.commands_size() < kBatchCommands;
  }

  absl::Status TakeMessage() {
    absl::StatusOr<wire::FromWorker> message = wire::Parse(incoming_);
    if (!message.ok()) return message.status();
    if (auto* hello = std::get_if<Hello>(&message->content)) {
      if (greeted_.exchange(true)) return InvalidField("hello", "came a second time");
      attached_ = state_->handler->OnHello(connection_, std::move(*hello));
      if (!attached_) return Overloaded("SCHEDULER_OVERLOADED", "the scheduler's mailbox is full");
      return absl::OkStatus();
    }
    auto& reports = std::get<std::vector<WorkerReport>>(message->content);
    if (!attached_) return InvalidField("hello", "is missing: it must come first");
    if (reports.empty()) return absl::OkStatus();
    const size_t cost = CostOf(reports);
    if (waiting_->fetch_add(cost) + cost > state_->options.max_waiting_reports) {
      waiting_->fetch_sub(cost);
      return Overloaded("TOO_MANY_REPORTS", "this worker reports faster than it is heard",
                        absl::StrCat(state_->options.max_waiting_reports, " reports waiting"));
    }
    Receipt receipt(waiting_.get(), [waiting = waiting_, cost](void*) { waiting->fetch_sub(cost); });
    if (!state_->handler->OnReports(connection_, message->fence, std::move(reports),
                                    std::move(receipt))) {
      return Overloaded("SCHEDULER_OVERLOADED", "the scheduler's mailbox is full");
    }
    return absl::OkStatus();
  }

  // Items of a round are dealt with one by one, so each counts.
  static size_t CostOf(const std::vector<WorkerReport>& reports) {
    size_t cost = kReportsPerMessage + reports.size();
    for (const WorkerReport& report : reports) {
      if (const auto* done = std::get_if<VerifyDone>(&report)) cost += done->items.size();
      if (const auto* exit = std::get_if<EarlyExitReported>(&report)) cost += exit->items.size();
    }
    return cost;
  }

  const std::shared_ptr<State> state_;
  const ConnectionId connection_;
  const std::shared_ptr<AttachOutbox> outbox_;
  grpc::Alarm hello_timer_;
  std::atomic<bool> greeted_{false};  // a Hello has come
  // Outlives the stream with the receipts that are out.
  const std::shared_ptr<std::atomic<size_t>> waiting_ = std::make_shared<std::atomic<size_t>>(0);

  // Of the reading reactions, which come one at a time, and of OnDone, which is last.
  pb::WorkerMessage incoming_;
  bool attached_ = false;

  size_t batch_bytes_ = 0;  // of the last message that waits; inside outbox_->Change only
};

Reactor* AttachServer::State::Attach(grpc::CallbackServerContext* context) {
  std::shared_ptr<Stream> stream;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (streams.size() < options.max_streams) {
      stream = std::make_shared<Stream>(shared_from_this(), next_connection, context);
      streams.emplace(next_connection++, stream);
    }
  }
  if (stream == nullptr) {
    class Refusal final : public Reactor {
     public:
      void OnDone() override { delete this; }
    };
    auto* refusal = new Refusal;
    refusal->Finish(wire::ToGrpcStatus(Overloaded(
        "TOO_MANY_WORKERS", "too many Attach streams", absl::StrCat(options.max_streams))));
    return refusal;
  }
  stream->Begin();
  return stream.get();
}

AttachServer::AttachServer(AttachHandler* handler, AttachServerOptions options)
    : state_(std::make_shared<State>(handler, options)) {}

AttachServer::~AttachServer() = default;

grpc::Service* AttachServer::service() { return state_.get(); }

void AttachServer::Greet(ConnectionId connection, const Welcome& welcome) {
  const auto stream = state_->Find(connection);
  if (stream == nullptr) return;
  stream->outbox().Change([&](std::deque<pb::SchedulerMessage>* waiting) {
    pb::SchedulerMessage& message = waiting->emplace_back();
    message.set_scheduler_epoch(welcome.scheduler_epoch);
    message.set_incarnation(welcome.incarnation);
    wire::Write(welcome, message.mutable_welcome());
    return true;
  });
  stream->outbox().Flush();
}

void AttachServer::Refuse(ConnectionId connection, const Refused& refused) {
  const auto stream = state_->Find(connection);
  if (stream == nullptr) return;
  stream->outbox().Change([&](std::deque<pb::SchedulerMessage>* waiting) {
    wire::Write(refused, waiting->emplace_back().mutable_refused());
    return true;
  });
  stream->outbox().End(
      MakeError(absl::StatusCode::kFailedPrecondition, refused.message,
                {.reason = refused.reason, .retryable = refused.retryable}),
      /*drop_waiting=*/false);
}

bool AttachServer::Send(ConnectionId connection, const Fence& fence,
                        const WorkerCommand& command) {
  const auto stream = state_->Find(connection);
  return stream == nullptr || stream->Queue(fence, command);
}

void AttachServer::Flush(ConnectionId connection) {
  if (const auto stream = state_->Find(connection)) stream->outbox().Flush();
}

void AttachServer::Close(ConnectionId connection, const absl::Status& status) {
  if (const auto stream = state_->Find(connection)) {
    stream->outbox().End(status, /*drop_waiting=*/true);
  }
}

void AttachServer::CloseAll(const absl::Status& status) {
  std::map<ConnectionId, std::shared_ptr<State::Stream>> streams;
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    streams = state_->streams;
  }
  for (const auto& [connection, stream] : streams) {
    stream->outbox().End(status, /*drop_waiting=*/true);
  }
}

size_t AttachServer::num_streams() const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->streams.size();
}

}  // namespace mirrorsd::rpc
