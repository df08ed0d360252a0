#include "services/scheduler/scheduler_actor.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

#include "common/error.h"
#include "services/runtime/clock.h"

namespace mirrorsd::scheduler {
namespace {

// Room that only cancels, detaches and the like may use: two for each stream that can be.
size_t ControlReserve(const SchedulerServerOptions& options) {
  return 2 * (options.submit.max_streams + options.attach.max_streams) + 1024;
}

}  // namespace

SchedulerActor::SchedulerActor(const SchedulerServerOptions& options,
                               std::unique_ptr<journal::Recorder> recorder,
                               std::function<void(bool)> on_ready)
    : scheduler_epoch_(options.core.scheduler_epoch),
      speculation_(options.core.speculation),
      num_speculative_tokens_(options.core.num_speculative_tokens),
      report_interval_(options.report_interval),
      observer_(options.observer),
      on_ready_(std::move(on_ready)),
      recorder_(std::move(recorder)),
      core_(options.core),
      attach_(this, options.attach),
      submit_(this, options.submit),
      actor_("scheduler", options.mailbox_capacity, ControlReserve(options)) {}

SchedulerActor::~SchedulerActor() { Stop(); }

void SchedulerActor::Start() {
  actor_.Start({
      .on_message = [this](Inbound&& inbound) { Take(std::move(inbound)); },
      .next_deadline = [this] { return std::min(core_.NextDeadline(), report_at_); },
      .on_time =
          [this](absl::Time now) {
            now_ = now;
            if (core_.NextDeadline() <= now) {
              Step(TimePassed{});
              Perform();
            }
            AfterStep(now);
          },
      .on_stop =
          [this] {
            Report();
            recorder_->Stop();
          },
  });
}

void SchedulerActor::Stop() { actor_.Stop(); }

void SchedulerActor::Drain() { actor_.PushControl(DrainRequested{}); }

bool SchedulerActor::WaitUntilDrained(absl::Duration timeout) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(
      lock, absl::ToChronoNanoseconds(std::min<absl::Duration>(timeout, absl::Hours(24))),
      [this] { return drained_; });
}

bool SchedulerActor::OnHello(ConnectionId connection, Hello hello) {
  return actor_.Push(WorkerAttached{connection, std::move(hello)});
}

bool SchedulerActor::OnReports(ConnectionId connection, Fence fence,
                               std::vector<WorkerReport> reports, rpc::Receipt receipt) {
  return actor_.Push(WorkerBatch{connection, fence, std::move(reports), std::move(receipt)});
}

void SchedulerActor::OnDetached(ConnectionId connection, const std::string& reason) {
  actor_.PushControl(WorkerDetached{connection, reason});
}

bool SchedulerActor::OnSubmit(ConnectionId stream, SubmitRequest request) {
  return actor_.Push(Submitted{stream, std::move(request)});
}

void SchedulerActor::OnCancelled(ConnectionId stream) { actor_.PushControl(Cancelled{stream}); }

bool SchedulerActor::OnDescribe(std::function<void(const CellDescription*)> reply) {
  return actor_.Push(DescribeAsked{std::move(reply)});
}

void SchedulerActor::Take(Inbound&& inbound) {
  now_ = runtime::MonotonicNow();
  std::visit(
      [this](auto&& message) {
        using T = std::decay_t<decltype(message)>;
        if constexpr (std::is_same_v<T, WorkerBatch>) {
          TakeBatch(std::move(message));
        } else if constexpr (std::is_same_v<T, DescribeAsked>) {
          const CellDescription cell = Describe();
          message.reply(&cell);
        } else {
          Step(std::move(message));
        }
      },
      std::move(inbound));
  Perform();
  AfterStep(now_);
}

// The core takes one sequence's item at a time.
void SchedulerActor::TakeBatch(WorkerBatch batch) {
  const auto step = [&](ReportItem item) {
    Step(WorkerReported{batch.connection, batch.fence, std::move(item)});
  };
  for (WorkerReport& report : batch.reports) {
    if (auto* done = std::get_if<VerifyDone>(&report)) {
      for (VerifyItemDone& item : done->items) {
        step(VerifyItemReport{done->round_id, std::move(item)});
      }
      step(VerifyRoundDone{done->round_id, done->times, done->blocks});
    } else if (auto* exit = std::get_if<EarlyExitReported>(&report)) {
      for (EarlyExitItem& item : exit->items) {
        step(EarlyExitItemReport{exit->round_id, std::move(item)});
      }
      step(EarlyExitRoundReport{exit->round_id, exit->sent_at_ns, exit->times});
    } else {
      std::visit(
          [&](auto&& item) {
            using T = std::decay_t<decltype(item)>;
            if constexpr (std::is_constructible_v<ReportItem, T>) step(std::move(item));
          },
          std::move(report));
    }
  }
}

// The one place that every (now, event) passes on its way into the core.
void SchedulerActor::Step(const Event& event) {
  fleet_.Watch(event);
  recorder_->Record(now_, event);
  const size_t before = actions_.size();
  core_.Step(now_, event, &actions_);
  recorder_->RecordActions(absl::MakeConstSpan(actions_).subspan(before));
}

// Workers first: a round must not wait while tokens are written to many clients. The order of what goes to
// one worker, or to one client, stays.
void SchedulerActor::Perform() {
  while (!actions_.empty()) {
    std::vector<ConnectionId> queue_full;
    PerformForWorkers(&queue_full);
    PerformForStreams();
    actions_.clear();
    for (const ConnectionId connection : queue_full) Step(WorkerQueueFull{connection});
  }
}

void SchedulerActor::PerformForWorkers(std::vector<ConnectionId>* queue_full) {
  to_flush_.clear();
  for (const Action& action : actions_) {
    fleet_.Watch(action);
    if (const auto* send = std::get_if<SendToWorker>(&action)) {
      if (!attach_.Send(send->connection, send->fence, send->command)) {
        queue_full->push_back(send->connection);
      }
      if (to_flush_.empty() || to_flush_.back() != send->connection) {
        to_flush_.push_back(send->connection);
      }
    } else if (const auto* welcome = std::get_if<WelcomeWorker>(&action)) {
      attach_.Greet(welcome->connection, welcome->welcome);
    } else if (const auto* refuse = std::get_if<RefuseWorker>(&action)) {
      attach_.Refuse(refuse->connection, refuse->refused);
    } else if (const auto* close = std::get_if<CloseWorker>(&action)) {
      attach_.Close(close->connection, Unavailable("CLOSED_BY_SCHEDULER", close->reason));
    }
  }
  for (const ConnectionId connection : to_flush_) attach_.Flush(connection);
}

void SchedulerActor::PerformForStreams() {
  for (const Action& action : actions_) {
    if (const auto* commit = std::get_if<CommitTokens>(&action)) {
      submit_.Send(commit->stream, commit->committed);
    } else if (const auto* fail = std::get_if<FailRequest>(&action)) {
      submit_.Fail(fail->stream, fail->status);
    }
  }
}

void SchedulerActor::AfterStep(absl::Time now) {
  const bool ready = core_.Health(now).ready();
  if (ready != ready_.load()) {
    ready_.store(ready);
    on_ready_(ready);
  }
  if (core_.IsDrained()) {
    std::lock_guard<std::mutex> lock(mutex_);
    drained_ = true;
    changed_.notify_all();
  }
  if (report_at_ <= now) {
    Report();
  } else if (observer_ != nullptr && report_at_ == absl::InfiniteFuture()) {
    report_at_ = now + report_interval_;
  }
}

void SchedulerActor::Report() {
  report_at_ = absl::InfiniteFuture();
  if (observer_ == nullptr) return;
  observer_->OnReport({.counters = core_.counters(),
                       .gauges = core_.Gauges(),
                       .health = core_.Health(now_),
                       .observations = core_.TakeObservations()});
}

CellDescription SchedulerActor::Describe() const {
  const CoreHealth health = core_.Health(now_);
  const CoreGauges gauges = core_.Gauges();
  CellDescription cell;
  cell.scheduler_epoch = scheduler_epoch_;
  cell.ready = health.ready();
  if (health.draining) {
    cell.not_ready_reason = "draining";
  } else if (!health.has_verifier) {
    cell.not_ready_reason = "no verifier is attached";
  } else if (health.stalled) {
    cell.not_ready_reason = "rounds have stalled";
  }
  if (const std::optional<Hello>& target = fleet_.target()) {
    cell.model_name = target->model_name;
    cell.model_fingerprint = target->model_fingerprint;
    cell.vocabulary_fingerprint = target->vocabulary_fingerprint;
    cell.context_length = target->context_length;
    cell.vocabulary_size = target->vocabulary_size;
  }
  cell.default_speculation = speculation_;
  cell.default_num_speculative_tokens = num_speculative_tokens_;
  for (int i = 0; i < kNumDegradedReasons; ++i) {
    if (gauges.degraded[i]) {
      cell.speculation_degraded.push_back(DegradedReasonName(static_cast<DegradedReason>(i)));
    }
  }
  cell.num_requests_running = gauges.num_requests_running;
  cell.num_requests_waiting = gauges.num_requests_waiting;
  cell.workers = fleet_.Workers(core_.LateDrafts());
  return cell;
}

}  // namespace mirrorsd::scheduler
