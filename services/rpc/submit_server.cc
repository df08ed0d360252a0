#include "services/rpc/submit_server.h"

#include <atomic>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "mirrorsd/internal/v1/scheduling.grpc.pb.h"
#include "services/rpc/outbox.h"
#include "services/wire/scheduling_wire.h"

namespace mirrorsd::rpc {
namespace {

namespace pb = ::mirrorsd::internal::v1;
using Reactor = grpc::ServerWriteReactor<pb::Committed>;
using SubmitOutbox = Outbox<Reactor, pb::Committed>;

// A reactor that only says no.
class Refusal final : public Reactor {
 public:
  explicit Refusal(const absl::Status& status) { Finish(wire::ToGrpcStatus(status)); }
  void OnDone() override { delete this; }
};

int NumTokens(const std::deque<pb::Committed>& waiting) {
  int num_tokens = 0;
  for (const pb::Committed& committed : waiting) num_tokens += committed.token_ids_size();
  return num_tokens;
}

// Appends `next` to `last` where its tokens follow on; the statistics are cumulative, so the later stand.
bool Merge(const pb::Committed& next, pb::Committed* last) {
  if (last->output_index() + last->token_ids_size() != next.output_index()) return false;
  last->mutable_token_ids()->MergeFrom(next.token_ids());
  last->mutable_origins()->MergeFrom(next.origins());
  last->mutable_logprobs()->MergeFrom(next.logprobs());
  last->set_finish(next.finish());
  *last->mutable_stats() = next.stats();
  last->set_queue_time_ns(next.queue_time_ns());
  return true;
}

}  // namespace

class SubmitServer::State final : public pb::Scheduling::CallbackService,
                                  public std::enable_shared_from_this<State> {
 public:
  State(SubmitHandler* handler, SubmitServerOptions options)
      : handler(handler), options(options) {}

  Reactor* Submit(grpc::CallbackServerContext* context,
                  const pb::SubmitRequest* request) override;
  grpc::ServerUnaryReactor* DescribeCell(grpc::CallbackServerContext* context,
                                         const pb::DescribeCellRequest* request,
                                         pb::DescribeCellResponse* response) override;

  class Stream;
  std::shared_ptr<Stream> Find(ConnectionId id) const {
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = streams.find(id);
    return found == streams.end() ? nullptr : found->second;
  }
  std::map<ConnectionId, std::shared_ptr<Stream>> CopyStreams() const {
    std::lock_guard<std::mutex> lock(mutex);
    return streams;
  }

  SubmitHandler* const handler;
  const SubmitServerOptions options;
  mutable std::mutex mutex;
  std::map<ConnectionId, std::shared_ptr<Stream>> streams;  // guarded by mutex
  ConnectionId next_stream = 1;                             // guarded by mutex
};

class SubmitServer::State::Stream final : public Reactor,
                                          public std::enable_shared_from_this<Stream> {
 public:
  Stream(std::shared_ptr<State> state, ConnectionId id, grpc::CallbackServerContext* context)
      : state_(std::move(state)),
        id_(id),
        outbox_(std::make_shared<SubmitOutbox>(this, context, state_->options.slow_client_grace)) {
  }

  void Begin(SubmitRequest request) {
    if (!state_->handler->OnSubmit(id_, std::move(request))) {
      outbox_->End(Overloaded("SCHEDULER_OVERLOADED", "the scheduler's mailbox is full"),
                   /*drop_waiting=*/true);
    }
  }

  void OnWriteDone(bool ok) override {
    outbox_->OnWriteDone(ok);
    if (!ok) TellCancelled();
  }

  void OnCancel() override {
    outbox_->End(absl::CancelledError("the client left"), /*drop_waiting=*/true);
    TellCancelled();
  }

  void OnDone() override {
    const std::shared_ptr<Stream> self = shared_from_this();
    outbox_->OnDone();
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->streams.erase(id_);
  }

  void Send(const Committed& committed) {
    const bool is_last = committed.finish != FinishReason::kNone;
    const bool has_room = outbox_->Change([&](std::deque<pb::Committed>* waiting) {
      if (NumTokens(*waiting) + committed.token_ids.size() > state_->options.max_pending_tokens) {
        return false;
      }
      pb::Committed message;
      wire::Write(committed, &message);
      if (waiting->empty() || !Merge(message, &waiting->back())) {
        waiting->push_back(std::move(message));
      }
      return true;
    });
    if (!has_room) {
      EndSlowClient();
    } else if (is_last) {
      End(absl::OkStatus());
    } else {
      outbox_->Flush();
    }
  }

  // The scheduler's end: what was sent before goes first.
  void End(const absl::Status& status) {
    told_ = true;  // the scheduler knows
    outbox_->End(status, /*drop_waiting=*/false);
  }

 private:
  void EndSlowClient() {
    outbox_->End(
        Overloaded("SLOW_CLIENT", "the client did not take the tokens that were ready for it",
                   absl::StrCat(state_->options.max_pending_tokens, " tokens")),
        /*drop_waiting=*/true);
    TellCancelled();
  }

  void TellCancelled() {
    if (!told_.exchange(true)) state_->handler->OnCancelled(id_);
  }

  const std::shared_ptr<State> state_;
  const ConnectionId id_;
  const std::shared_ptr<SubmitOutbox> outbox_;
  std::atomic<bool> told_{false};  // either side knows of the end
};

Reactor* SubmitServer::State::Submit(grpc::CallbackServerContext* context,
                                     const pb::SubmitRequest* message) {
  absl::StatusOr<SubmitRequest> request = wire::Parse(*message);
  if (!request.ok()) return new Refusal(request.status());
  std::shared_ptr<Stream> stream;
  {
    std::lock_guard<std::mutex> lock(mutex);
    if (streams.size() < options.max_streams) {
      stream = std::make_shared<Stream>(shared_from_this(), next_stream, context);
      streams.emplace(next_stream++, stream);
    }
  }
  if (stream == nullptr) {
    return new Refusal(Overloaded("TOO_MANY_STREAMS", "too many requests are under way",
                                  absl::StrCat(options.max_streams)));
  }
  stream->Begin(*std::move(request));
  return stream.get();
}

grpc::ServerUnaryReactor* SubmitServer::State::DescribeCell(
    grpc::CallbackServerContext* context, const pb::DescribeCellRequest* request,
    pb::DescribeCellResponse* response) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  // The reactor and the response live until Finish, which the reply brings.
  const bool taken = handler->OnDescribe([reactor, response](const CellDescription* cell) {
    if (cell == nullptr) {
      reactor->Finish(wire::ToGrpcStatus(Unavailable("SHUTTING_DOWN", "the scheduler is going")));
      return;
    }
    wire::Write(*cell, response);
    reactor->Finish(grpc::Status::OK);
  });
  if (!taken) {
    reactor->Finish(wire::ToGrpcStatus(
        Overloaded("SCHEDULER_OVERLOADED", "the scheduler's mailbox is full")));
  }
  return reactor;
}

SubmitServer::SubmitServer(SubmitHandler* handler, SubmitServerOptions options)
    : state_(std::make_shared<State>(handler, options)) {}

SubmitServer::~SubmitServer() = default;

grpc::Service* SubmitServer::service() { return state_.get(); }

void SubmitServer::Send(ConnectionId stream, const Committed& committed) {
  if (const auto found = state_->Find(stream)) found->Send(committed);
}

void SubmitServer::Fail(ConnectionId stream, const absl::Status& status) {
  if (const auto found = state_->Find(stream)) found->End(status);
}

void SubmitServer::FailAll(const absl::Status& status) {
  for (const auto& [id, stream] : state_->CopyStreams()) stream->End(status);
}

size_t SubmitServer::num_streams() const {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return state_->streams.size();
}

}  // namespace mirrorsd::rpc
