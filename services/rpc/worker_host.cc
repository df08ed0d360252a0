#include "services/rpc/worker_host.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/error.h"

namespace mirrorsd::rpc {
namespace {

// Commands wait here while the session computes. What the scheduler may have under way is bounded by the
// limits of the Hello; more than this is a scheduler gone wrong, and the stream is dropped.
constexpr size_t kMailboxBatches = 65536;
constexpr size_t kControlReserve = 1024;
// Tokens of commands that wait, each command and each item of a round counted as some more.
constexpr size_t kMaxWaitingTokens = 1 << 25;

size_t NumTokens(const std::vector<WorkerCommand>& commands) {
  constexpr size_t kPerItem = 32;
  struct Count {
    size_t operator()(const StartSequence&) const { return 0; }
    size_t operator()(const AppendTokens& append) const { return append.token_ids.size(); }
    size_t operator()(const StartVerify& start) const { return kPerItem * start.items.size(); }
    size_t operator()(const StartRollout& start) const {
      return start.path_tokens.size() + kPerItem * start.roots.size();
    }
    size_t operator()(const EndSequence&) const { return 0; }
    size_t operator()(const mirrorsd::Drain&) const { return 0; }
  };
  size_t size = kPerItem;
  for (const WorkerCommand& command : commands) size += kPerItem + std::visit(Count(), command);
  return size;
}

}  // namespace

WorkerHost::WorkerHost(HostedSession session, AttachClientOptions client)
    : session_(std::move(session)), actor_("session", kMailboxBatches, kControlReserve) {
  client.heartbeat = session_.heartbeat;
  AttachListener* const listener = this;
  client_ = std::make_unique<AttachClient>(listener, std::move(client));
}

WorkerHost::~WorkerHost() { Stop(); }

void WorkerHost::Start() {
  actor_.Start({
      .on_message = [this](Message&& message) { Take(std::move(message)); },
      .next_deadline =
          [this] { return session_.has_work() ? absl::InfinitePast() : absl::InfiniteFuture(); },
      .on_time = [this](absl::Time) { WorkOnce(); },
  });
  actor_.PushControl(Detached{absl::OkStatus()});  // not attached yet: dial
}

void WorkerHost::Drain() { actor_.PushControl(DrainAsked{}); }

std::optional<absl::Status> WorkerHost::WaitUntilOver(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto deadline =
      std::chrono::steady_clock::now() +
      absl::ToChronoNanoseconds(std::min<absl::Duration>(timeout, absl::Hours(24 * 365)));
  changed_.wait_until(lock, deadline, [this] { return over_.has_value(); });
  return over_;
}

void WorkerHost::Stop() {
  SetOver(absl::CancelledError("the worker was stopped"));
  client_->Stop();
  actor_.Stop();
  attached_.store(false);
}

void WorkerHost::OnWelcome(const Fence& fence) { actor_.PushControl(Welcomed{fence}); }

bool WorkerHost::OnCommands(const Fence& fence, std::vector<WorkerCommand> commands) {
  const size_t size = NumTokens(commands);
  if (waiting_tokens_.fetch_add(size) + size <= kMaxWaitingTokens &&
      actor_.Push(Commanded{fence, std::move(commands)})) {
    return true;
  }
  waiting_tokens_.fetch_sub(size);
  return false;
}

std::string WorkerHost::detached_because() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return detached_because_;
}

void WorkerHost::OnDetached(const absl::Status& status) {
  attached_.store(false);
  actor_.PushControl(Detached{status});
}

void WorkerHost::Take(Message&& message) {
  if (auto* commanded = std::get_if<Commanded>(&message)) {
    waiting_tokens_.fetch_sub(NumTokens(commanded->commands));
    if (fence_ != commanded->fence) return;
    for (WorkerCommand& command : commanded->commands) session_.handle(std::move(command));
    if (!session_.has_work()) EndIfDrained();
  } else if (auto* welcomed = std::get_if<Welcomed>(&message)) {
    fence_ = welcomed->fence;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      detached_because_.clear();
    }
    attached_.store(true);
    num_attachments_.fetch_add(1);
    if (draining_) client_->Send(*fence_, {mirrorsd::Drain{}});
  } else if (auto* detached = std::get_if<Detached>(&message)) {
    TakeDetached(detached->status);
  } else {
    draining_ = true;
    if (fence_.has_value()) client_->Send(*fence_, {mirrorsd::Drain{}});
    EndIfDrained();
  }
}

void WorkerHost::TakeDetached(const absl::Status& status) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    detached_because_ = std::string(status.message());
  }
  fence_.reset();
  attached_.store(false);
  session_.reset();
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (info.has_value() && !info->retryable) return SetOver(status);
  EndIfDrained();
  // A new attachment starts with an empty session, and its Hello says so.
  client_->Dial(session_.make_hello());
}

void WorkerHost::WorkOnce() {
  // A report leaves at once: an early exit must not wait for the rest of its round.
  session_.work([this](WorkerReport report) {
    if (fence_.has_value()) client_->Send(*fence_, {std::move(report)});
  });
  EndIfDrained();
}

void WorkerHost::EndIfDrained() {
  if (draining_ && session_.num_sequences() == 0 && !session_.has_work()) SetOver(absl::OkStatus());
}

void WorkerHost::SetOver(const absl::Status& status) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (over_.has_value()) return;
  over_ = status;
  changed_.notify_all();
}

}  // namespace mirrorsd::rpc
