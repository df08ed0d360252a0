#pragma once
// The sending half of one server stream: messages that wait, at most one write under way, and one end that
// is sent behind them. A peer that does not read holds up nobody: after a grace the stream is cut off. Not
// bounded by itself: who queues looks at what waits.
// Thread rule: any thread. gRPC's reactions never run inside the calls made here, so holding the mutex over
// them is safe.

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "grpcpp/alarm.h"
#include "grpcpp/server_context.h"
#include "services/wire/status_wire.h"

namespace mirrorsd::rpc {

template <typename Reactor, typename Message>
class Outbox : public std::enable_shared_from_this<Outbox<Reactor, Message>> {
 public:
  // Both outlive the call to OnDone.
  Outbox(Reactor* reactor, grpc::CallbackServerContext* context, absl::Duration grace)
      : reactor_(reactor), context_(context), grace_(grace) {}

  // Lets `edit` change what waits and returns what it says; after the end, does nothing and says true.
  template <typename Edit>
  bool Change(const Edit& edit) {
    std::lock_guard<std::mutex> lock(mutex_);
    return end_.has_value() || edit(&waiting_);
  }

  // Starts to send what waits.
  void Flush() {
    std::lock_guard<std::mutex> lock(mutex_);
    Pump();
  }

  // Ends the stream, behind what waits or at once. Only the first end counts; says whether this was it.
  bool End(const absl::Status& status, bool drop_waiting) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (end_.has_value()) return false;
    end_ = status;
    if (drop_waiting) waiting_.clear();
    Pump();
    if (!finished_) CutOffLater();
    return true;
  }

  void OnWriteDone(bool ok) {
    std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    if (!ok) {
      waiting_.clear();
      if (!end_.has_value()) end_ = absl::CancelledError("the peer is gone");
    }
    Pump();
  }

  // From the reactor's OnDone: nothing of gRPC is touched any more.
  void OnDone() {
    std::lock_guard<std::mutex> lock(mutex_);
    done_ = true;
    cut_off_.Cancel();
  }

  // Cancels the call from this side, whatever is under way.
  void CutOff() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!done_) context_->TryCancel();
  }

  // The end that was set first; OK where there is none.
  absl::Status end() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return end_.value_or(absl::OkStatus());
  }
  bool has_ended() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return end_.has_value();
  }

 private:
  // A second StartWrite before OnWriteDone would abort the process, hence `writing_`.
  void Pump() {
    if (writing_ || finished_) return;
    if (!waiting_.empty()) {
      message_ = std::move(waiting_.front());
      waiting_.pop_front();
      writing_ = true;
      reactor_->StartWrite(&message_);
    } else if (end_.has_value()) {
      finished_ = true;
      reactor_->Finish(wire::ToGrpcStatus(*end_));
    }
  }

  void CutOffLater() {
    cut_off_.Set(absl::ToChronoTime(absl::Now() + grace_),
                 [weak = this->weak_from_this()](bool expired) {
                   if (!expired) return;
                   if (const auto self = weak.lock()) self->CutOff();
                 });
  }

  Reactor* const reactor_;
  grpc::CallbackServerContext* const context_;
  const absl::Duration grace_;
  grpc::Alarm cut_off_;

  mutable std::mutex mutex_;
  // All below guarded by mutex_.
  std::deque<Message> waiting_;
  Message message_;  // while writing_: gRPC's
  bool writing_ = false;
  bool finished_ = false;
  bool done_ = false;
  std::optional<absl::Status> end_;
};

}  // namespace mirrorsd::rpc
