#include "services/gateway/generate_stream.h"

#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "mirrorsd/v1/inference.pb.h"
#include "services/gateway/byte_buffers.h"
#include "services/gateway/output_text.h"
#include "services/gateway/request_plan.h"
#include "services/rpc/outbox.h"
#include "services/runtime/clock.h"
#include "services/telemetry/log.h"
#include "services/wire/inference_wire.h"

namespace mirrorsd::gateway {
namespace {

constexpr char kComponent[] = "gateway";

// Of one message; what waits is merged up to this.
constexpr int kMaxMergedTokens = 1024;

class Reactor;
using Outbox = rpc::Outbox<Reactor, v1::GenerateResponse>;

// What outlives the reactor: the scheduler may speak of the request a little longer than the client listens.
class Stream : public std::enable_shared_from_this<Stream> {
 public:
  Stream(std::shared_ptr<GatewayState> state, std::shared_ptr<Outbox> outbox,
         grpc::CallbackServerContext* context)
      : state_(std::move(state)), outbox_(std::move(outbox)), context_(context),
        started_at_(runtime::MonotonicNow()) {
    state_->num_requests.fetch_add(1);
    state_->metrics.streams_open.Add(1);
  }
  ~Stream() {
    LeavePlace();
    state_->num_requests.fetch_sub(1);
    state_->metrics.streams_open.Add(-1);
  }

  void Start(const grpc::ByteBuffer& request);
  void OnClientGone();

 private:
  absl::StatusOr<RequestPlan> Plan(const grpc::ByteBuffer& request);
  bool TakePlace();
  void LeavePlace();
  void OnCommitted(Committed committed);
  void OnSchedulerDone(const absl::Status& status);

  // All below with mutex_ held.
  void MeasureTokens(size_t num_tokens);
  void Send(v1::GenerateResponse response);
  void Complete(FinishReason reason, const Committed& committed, v1::GenerateResponse* response);
  // Takes note of the request's one end and returns whether it was that.
  bool Count(FinishReason reason);
  void Abort();

  const std::shared_ptr<GatewayState> state_;
  const std::shared_ptr<Outbox> outbox_;
  grpc::CallbackServerContext* const context_;  // only before the reactor is done
  const absl::Time started_at_;
  bool has_place_ = false;  // from Start, or not at all

  std::mutex mutex_;
  std::optional<RequestPlan> plan_;
  std::optional<OutputText> output_;
  std::shared_ptr<rpc::SubmitClient::Call> call_;
  bool aborted_ = false;   // the call is to be cancelled, or was
  bool counted_ = false;   // the request's end has been counted
  bool id_sent_ = false;
  absl::Time first_token_at_;
  absl::Time last_tokens_at_;
};

class Reactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  Reactor(std::shared_ptr<GatewayState> state, grpc::CallbackServerContext* context,
          const grpc::ByteBuffer& request)
      : outbox_(std::make_shared<Outbox>(this, context, state->limits.slow_client_grace)),
        stream_(std::make_shared<Stream>(state, outbox_, context)) {
    stream_->Start(request);
  }

  void OnWriteDone(bool ok) override { outbox_->OnWriteDone(ok); }
  void OnCancel() override { stream_->OnClientGone(); }
  void OnDone() override {
    outbox_->OnDone();
    delete this;
  }

  // What Outbox calls: the message becomes the bytes of the raw method.
  using grpc::ServerWriteReactor<grpc::ByteBuffer>::StartWrite;
  void StartWrite(const v1::GenerateResponse* response) {
    bytes_ = ToByteBuffer(*response);
    StartWrite(&bytes_);
  }

 private:
  grpc::ByteBuffer bytes_;  // while a write is under way: gRPC's
  const std::shared_ptr<Outbox> outbox_;
  const std::shared_ptr<Stream> stream_;
};

// Refused streams hold none, however many there are: or a flood of them would keep out everybody.
bool Stream::TakePlace() {
  has_place_ = state_->num_places_taken.fetch_add(1) < state_->limits.max_concurrent_requests;
  if (!has_place_) state_->num_places_taken.fetch_sub(1);
  return has_place_;
}

void Stream::LeavePlace() {
  if (std::exchange(has_place_, false)) state_->num_places_taken.fetch_sub(1);
}

absl::StatusOr<RequestPlan> Stream::Plan(const grpc::ByteBuffer& request) {
  // First what costs nothing: a flood is refused unread.
  if (state_->draining.load()) {
    return Unavailable("DRAINING", "this gateway is shutting down");
  }
  if (!TakePlace()) {
    return Overloaded("TOO_MANY_REQUESTS", "too many requests are open",
                      absl::StrCat(state_->limits.max_concurrent_requests));
  }
  v1::GenerateRequest message;
  if (absl::Status status = wire::ParseMessage(ToBytes(request), &message); !status.ok()) {
    return status;
  }
  auto command = wire::Parse(message);
  if (!command.ok()) return command.status();
  const std::shared_ptr<const CellView> view = state_->watch->view();
  if (!view->reachable) return Unavailable("NO_SCHEDULER", view->error);
  auto plan = PlanRequest(*command, state_->model, view->cell,
                          [this] { return state_->random.Next(); });
  if (!plan.ok()) return plan.status();
  const auto deadline = context_->deadline();
  if (deadline != std::chrono::system_clock::time_point::max()) {
    const auto left = absl::FromChrono(deadline - std::chrono::system_clock::now());
    plan->submit.deadline = std::max(left, absl::Milliseconds(1));
  }
  return plan;
}

void Stream::Start(const grpc::ByteBuffer& request) {
  absl::StatusOr<RequestPlan> plan = Plan(request);
  if (!plan.ok()) {
    const std::optional<ErrorInfo> info = GetErrorInfo(plan.status());
    const std::string reason = info.has_value() ? info->reason : "OTHER";
    state_->metrics.requests_rejected.With({{"reason", reason}}).Increment();
    LeavePlace();
    outbox_->End(plan.status(), /*drop_waiting=*/true);
    return;
  }
  SubmitRequest submit;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    plan_ = *std::move(plan);
    output_.emplace(state_->model.tokenizer, plan_->skip_special_tokens, plan_->stop);
    submit = plan_->submit;
  }
  state_->metrics.prompt_tokens.Increment(static_cast<double>(submit.token_ids.size()));
  rpc::SubmitCallbacks callbacks;
  callbacks.on_committed = [self = shared_from_this()](Committed committed) {
    self->OnCommitted(std::move(committed));
  };
  callbacks.on_done = [self = shared_from_this()](absl::Status status) {
    self->OnSchedulerDone(status);
  };
  auto call = state_->scheduler->Submit(submit, std::move(callbacks));
  std::lock_guard<std::mutex> lock(mutex_);
  call_ = std::move(call);
  if (aborted_) call_->Cancel();  // the client left meanwhile
}

void Stream::Abort() {
  aborted_ = true;
  if (call_ != nullptr) call_->Cancel();
}

bool Stream::Count(FinishReason reason) {
  if (counted_) return false;
  counted_ = true;
  state_->metrics.requests.With({{"finish_reason", wire::FinishReasonName(reason)}}).Increment();
  const absl::Time now = runtime::MonotonicNow();
  state_->metrics.e2e_request_latency_seconds.Observe(absl::ToDoubleSeconds(now - started_at_));
  const int32_t delivered = output_->num_delivered();
  if (delivered > 1) {
    state_->metrics.request_time_per_output_token_seconds.Observe(
        absl::ToDoubleSeconds(last_tokens_at_ - first_token_at_) / (delivered - 1));
  }
  return true;
}

void Stream::MeasureTokens(size_t num_tokens) {
  const absl::Time now = runtime::MonotonicNow();
  state_->metrics.tokens_generated.Increment(static_cast<double>(num_tokens));
  if (first_token_at_ == absl::Time()) {
    first_token_at_ = now;
    state_->metrics.time_to_first_token_seconds.Observe(absl::ToDoubleSeconds(now - started_at_));
  } else {
    const double each = absl::ToDoubleSeconds(now - last_tokens_at_) / num_tokens;
    for (size_t i = 0; i < num_tokens; ++i) {
      state_->metrics.inter_token_latency_seconds.Observe(each);
    }
  }
  last_tokens_at_ = now;
}

void Stream::Send(v1::GenerateResponse response) {
  if (!id_sent_) response.set_request_id(plan_->submit.request_id);
  id_sent_ = true;
  const bool room = outbox_->Change([&](std::deque<v1::GenerateResponse>* waiting) {
    size_t tokens = static_cast<size_t>(response.token_ids_size());
    for (const auto& message : *waiting) tokens += static_cast<size_t>(message.token_ids_size());
    if (tokens > state_->limits.max_stream_buffer_tokens) return false;
    if (!waiting->empty() && waiting->back().token_ids_size() < kMaxMergedTokens) {
      // MergeFrom appends the ids but would replace the text.
      const std::string text = absl::StrCat(waiting->back().text(), response.text());
      waiting->back().MergeFrom(response);
      waiting->back().set_text(text);
    } else {
      waiting->push_back(std::move(response));
    }
    return true;
  });
  if (room) {
    outbox_->Flush();
    return;
  }
  Count(FinishReason::kError);
  Abort();
  outbox_->End(Overloaded("SLOW_CLIENT", "the client reads too slowly",
                          absl::StrCat(state_->limits.max_stream_buffer_tokens, " tokens waiting")),
               /*drop_waiting=*/true);
}

void Stream::Complete(FinishReason reason, const Committed& committed,
                      v1::GenerateResponse* response) {
  v1::GenerateFinal* final = response->mutable_final();
  final->set_finish_reason(wire::FinishReasonName(reason));
  final->mutable_usage()->set_prompt_tokens(static_cast<int32_t>(plan_->submit.token_ids.size()));
  final->mutable_usage()->set_completion_tokens(output_->num_delivered());
  wire::Write(committed.stats, plan_->speculation, final->mutable_speculation());
  wire::Write(plan_->submit.sampling, final->mutable_parameters());
  v1::Timing* timing = final->mutable_timing();
  timing->set_queue_seconds(absl::ToDoubleSeconds(committed.queue_time));
  if (first_token_at_ != absl::Time()) {
    timing->set_time_to_first_token_seconds(absl::ToDoubleSeconds(first_token_at_ - started_at_));
  }
  timing->set_total_seconds(absl::ToDoubleSeconds(runtime::MonotonicNow() - started_at_));
}

void Stream::OnCommitted(Committed committed) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (counted_ || outbox_->has_ended()) return;
  OutputText::Delivery delivery = output_->Take(committed.token_ids);
  if (!delivery.token_ids.empty()) MeasureTokens(delivery.token_ids.size());
  v1::GenerateResponse response;
  response.mutable_token_ids()->Assign(delivery.token_ids.begin(), delivery.token_ids.end());
  FinishReason finish = committed.finish;
  if (finish != FinishReason::kNone) delivery.text += output_->Finish();
  if (output_->stopped()) finish = FinishReason::kStop;
  response.set_text(std::move(delivery.text));
  if (finish == FinishReason::kNone) {
    if (response.token_ids_size() > 0) Send(std::move(response));
    return;
  }
  Complete(finish, committed, &response);
  Send(std::move(response));
  if (!Count(finish)) return;  // the client was too slow for the very last message
  if (committed.finish == FinishReason::kNone) Abort();  // a stop string: the rest is not wanted
  outbox_->End(absl::OkStatus(), /*drop_waiting=*/false);
}

void Stream::OnSchedulerDone(const absl::Status& status) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (counted_) return;
  const absl::Status end =
      status.ok() ? absl::InternalError("the scheduler ended the stream without a finish") : status;
  const bool cancelled = end.code() == absl::StatusCode::kCancelled;
  Count(cancelled ? FinishReason::kCancelled : FinishReason::kError);
  outbox_->End(end, /*drop_waiting=*/false);
  if (!cancelled) {
    telemetry::LogWarning(kComponent, "request failed",
                          {{"request_id", plan_->submit.request_id},
                           {"error", std::string(end.message())}});
  }
}

void Stream::OnClientGone() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (plan_.has_value() && !counted_) {
    Count(FinishReason::kCancelled);
    Abort();
  }
  outbox_->End(absl::CancelledError("the client is gone"), /*drop_waiting=*/true);
}

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerate(std::shared_ptr<GatewayState> state,
                                                          grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer& request) {
  return new Reactor(std::move(state), context, request);
}

}  // namespace mirrorsd::gateway
