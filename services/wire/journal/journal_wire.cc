#include "services/wire/journal/journal_wire.h"

#include <utility>
#include <variant>

#include "common/error.h"
#include "services/wire/draft_wire.h"
#include "services/wire/field_check.h"
#include "services/wire/fleet_wire.h"
#include "services/wire/limits.h"
#include "services/wire/scheduling_wire.h"
#include "services/wire/sequence_wire.h"
#include "services/wire/verifier_wire.h"

// Structured bindings name every field of a struct: one more or one less does not compile.

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;
using namespace scheduler;  // NOLINT: the core's events and actions are what this file is about

// ---- events ---------------------------------------------------------------------------------------

struct ItemWriter {
  pb::JournalReported* out;

  void operator()(const Heartbeat& x) { Write(x, out->mutable_heartbeat()); }
  void operator()(const SequenceStarted& x) { Write(x, out->mutable_sequence_started()); }
  void operator()(const EarlyExitItemReport& report) {
    const auto& [round_id, item] = report;
    out->mutable_early_exit_item()->set_round_id(round_id);
    Write(item, out->mutable_early_exit_item()->mutable_item());
  }
  void operator()(const EarlyExitRoundReport& report) {
    const auto& [round_id, sent_at_ns, times] = report;
    pb::JournalEarlyExitRound* round = out->mutable_early_exit_round();
    round->set_round_id(round_id);
    round->set_sent_at_ns(sent_at_ns);
    Write(times, round->mutable_times());
  }
  void operator()(const VerifyItemReport& report) {
    const auto& [round_id, item] = report;
    out->mutable_verify_item()->set_round_id(round_id);
    Write(item, out->mutable_verify_item()->mutable_item());
  }
  void operator()(const VerifyRoundDone& report) {
    const auto& [round_id, times, blocks] = report;
    pb::JournalVerifyRoundDone* done = out->mutable_verify_round_done();
    done->set_round_id(round_id);
    Write(times, done->mutable_times());
    Write(blocks, done->mutable_blocks());
  }
  void operator()(const SequenceEnded& x) { Write(x, out->mutable_sequence_ended()); }
  void operator()(const RolloutProgress& x) { Write(x, out->mutable_rollout_progress()); }
  void operator()(const SequenceState& x) { Write(x, out->mutable_sequence_state()); }
  void operator()(const Drain&) { out->mutable_drain(); }
};

struct EventWriter {
  pb::JournalEvent* out;

  void operator()(const Submitted& event) {
    const auto& [stream, request] = event;
    out->mutable_submitted()->set_stream(stream);
    Write(request, out->mutable_submitted()->mutable_request());
  }
  void operator()(const Cancelled& event) {
    const auto& [stream] = event;
    out->mutable_cancelled()->set_stream(stream);
  }
  void operator()(const WorkerAttached& event) {
    const auto& [connection, hello] = event;
    out->mutable_worker_attached()->set_connection(connection);
    Write(hello, out->mutable_worker_attached()->mutable_hello());
  }
  void operator()(const WorkerDetached& event) {
    const auto& [connection, reason] = event;
    out->mutable_worker_detached()->set_connection(connection);
    out->mutable_worker_detached()->set_reason(reason);
  }
  void operator()(const WorkerReported& event) {
    const auto& [connection, fence, item] = event;
    pb::JournalReported* reported = out->mutable_worker_reported();
    reported->set_connection(connection);
    reported->set_scheduler_epoch(fence.scheduler_epoch);
    reported->set_incarnation(fence.incarnation);
    std::visit(ItemWriter{reported}, item);
  }
  void operator()(const WorkerQueueFull& event) {
    const auto& [connection] = event;
    out->mutable_worker_queue_full()->set_connection(connection);
  }
  void operator()(const DrainRequested&) { out->mutable_drain_requested(); }
  void operator()(const TimePassed&) { out->mutable_time_passed(); }
};

// Parses one alternative of a oneof into a variant.
template <typename T, typename Message, typename Variant>
void ParseAs(const Message& message, const Field& parent, const char* name, Checks* checks,
             Variant* out) {
  Parse(message, Field(parent, name), checks, &out->template emplace<T>());
}

void ParseItem(const pb::JournalReported& message, const Field& field, Checks* checks,
               ReportItem* item) {
  using Case = pb::JournalReported;
  switch (message.item_case()) {
    case Case::kHeartbeat:
      return ParseAs<Heartbeat>(message.heartbeat(), field, "heartbeat", checks, item);
    case Case::kSequenceStarted:
      return ParseAs<SequenceStarted>(message.sequence_started(), field, "sequence_started", checks,
                                      item);
    case Case::kEarlyExitItem: {
      auto& report = item->emplace<EarlyExitItemReport>();
      report.round_id = message.early_exit_item().round_id();
      return Parse(message.early_exit_item().item(), Field(field, "early_exit_item"), checks,
                   &report.item);
    }
    case Case::kEarlyExitRound: {
      const pb::JournalEarlyExitRound& round = message.early_exit_round();
      const Field round_field(field, "early_exit_round");
      auto& report = item->emplace<EarlyExitRoundReport>();
      report.round_id = round.round_id();
      report.sent_at_ns = round.sent_at_ns();
      checks->NotNegative(Field(round_field, "sent_at_ns"), round.sent_at_ns());
      return Parse(round.times(), Field(round_field, "times"), checks, &report.times);
    }
    case Case::kVerifyItem: {
      auto& report = item->emplace<VerifyItemReport>();
      report.round_id = message.verify_item().round_id();
      return Parse(message.verify_item().item(), Field(field, "verify_item"), checks, &report.item);
    }
    case Case::kVerifyRoundDone: {
      const pb::JournalVerifyRoundDone& done = message.verify_round_done();
      const Field done_field(field, "verify_round_done");
      auto& report = item->emplace<VerifyRoundDone>();
      report.round_id = done.round_id();
      Parse(done.times(), Field(done_field, "times"), checks, &report.times);
      return Parse(done.blocks(), Field(done_field, "blocks"), checks, &report.blocks);
    }
    case Case::kSequenceEnded:
      return ParseAs<SequenceEnded>(message.sequence_ended(), field, "sequence_ended", checks,
                                    item);
    case Case::kRolloutProgress:
      return ParseAs<RolloutProgress>(message.rollout_progress(), field, "rollout_progress", checks,
                                      item);
    case Case::kSequenceState:
      return ParseAs<SequenceState>(message.sequence_state(), field, "sequence_state", checks,
                                    item);
    case Case::kDrain:
      item->emplace<Drain>();
      return;
    case Case::ITEM_NOT_SET:
      return checks->Require(false, Field(field, "item"), "is missing or unknown");
  }
}

void ParseSubmitted(const pb::JournalSubmitted& message, const Field& field, Checks* checks,
                    Submitted* submitted) {
  submitted->stream = message.stream();
  auto request = Parse(message.request());
  if (!request.ok()) {
    return checks->Require(false, Field(field, "request"), request.status().message());
  }
  submitted->request = *std::move(request);
}

void ParseReported(const pb::JournalReported& message, const Field& field, Checks* checks,
                   WorkerReported* reported) {
  reported->connection = message.connection();
  reported->fence = {message.scheduler_epoch(), message.incarnation()};
  ParseItem(message, field, checks, &reported->item);
}

// ---- actions --------------------------------------------------------------------------------------

void WriteFailure(const FailRequest& action, pb::JournalFailure* out) {
  const auto& [stream, status] = action;
  out->set_stream(stream);
  out->set_code(static_cast<int>(status.code()));
  out->set_message(std::string(status.message()));
  const std::optional<ErrorInfo> info = GetErrorInfo(status);
  if (!info.has_value()) return;
  const auto& [reason, field, limit, retryable] = *info;
  out->set_reason(reason);
  out->set_field(field);
  out->set_limit(limit);
  out->set_retryable(retryable);
}

void WriteClosed(const CloseWorker& action, pb::JournalClosed* out) {
  const auto& [connection, reason] = action;
  out->set_connection(connection);
  out->set_reason(reason);
}

void WriteRefuse(const RefuseWorker& action, pb::JournalRefuse* out) {
  const auto& [connection, refused] = action;
  out->set_connection(connection);
  Write(refused, out->mutable_refused());
}

struct ActionWriter {
  pb::JournalAction* out;

  void operator()(const WelcomeWorker& action) {
    const auto& [connection, welcome] = action;
    out->mutable_welcome_worker()->set_connection(connection);
    Write(welcome, out->mutable_welcome_worker()->mutable_welcome());
  }
  void operator()(const RefuseWorker& action) { WriteRefuse(action, out->mutable_refuse_worker()); }
  void operator()(const CloseWorker& action) { WriteClosed(action, out->mutable_close_worker()); }
  void operator()(const SendToWorker& action) {
    const auto& [connection, fence, command, stream] = action;
    pb::JournalSend* send = out->mutable_send_to_worker();
    send->set_connection(connection);
    send->set_scheduler_epoch(fence.scheduler_epoch);
    send->set_incarnation(fence.incarnation);
    Write(command, send->mutable_command());
    send->set_stream(stream);
  }
  void operator()(const CommitTokens& action) {
    const auto& [stream, committed] = action;
    out->mutable_commit_tokens()->set_stream(stream);
    Write(committed, out->mutable_commit_tokens()->mutable_committed());
  }
  void operator()(const FailRequest& action) { WriteFailure(action, out->mutable_fail_request()); }
};

bool NoteCommand(const SendToWorker& send, pb::JournalNote* note) {
  if (const auto* start = std::get_if<StartSequence>(&send.command)) {
    pb::JournalPlaced* placed = note->mutable_placed();
    placed->set_stream(send.stream);
    placed->set_connection(send.connection);
    placed->set_sequence_id(start->sequence_id);
    placed->set_prompt_length(start->prompt_length);
    placed->set_total_length(start->total_length);
    return true;
  }
  if (const auto* verify = std::get_if<StartVerify>(&send.command)) {
    pb::JournalRound* round = note->mutable_round();
    round->set_connection(send.connection);
    round->set_round_id(verify->round_id);
    for (const VerifyItem& item : verify->items) {
      pb::JournalRoundItem* out = round->add_items();
      out->set_sequence_id(item.sequence_id);
      out->set_is_prefill(item.is_prefill);
      out->set_begin(item.begin);
      out->set_end(item.end);
      out->set_window(static_cast<int32_t>(item.window.size()));
    }
    return true;
  }
  if (const auto* start = std::get_if<StartRollout>(&send.command)) {
    pb::JournalRollout* rollout = note->mutable_rollout();
    rollout->set_connection(send.connection);
    rollout->set_sequence_id(start->sequence_id);
    rollout->set_round_id(start->round_id);
    rollout->set_depth(start->depth);
    rollout->set_is_from_exit(start->exit_sent_at_ns > 0);
    for (const RolloutRoot& root : start->roots) {
      rollout->add_num_accepted(root.num_accepted);
      rollout->add_root(root.token.has_value() ? *root.token : -1 - root.own_rank);
    }
    return true;
  }
  if (const auto* end = std::get_if<EndSequence>(&send.command)) {
    note->mutable_ended_at()->set_connection(send.connection);
    note->mutable_ended_at()->set_sequence_id(end->sequence_id);
    return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<RecordedEvent> Parse(const pb::JournalEvent& message) {
  using Case = pb::JournalEvent;
  Checks checks;
  const Field root("");
  RecordedEvent out{.now = absl::FromUnixNanos(message.now_ns())};
  checks.NotNegative(Field(root, "now_ns"), message.now_ns());
  switch (message.event_case()) {
    case Case::kSubmitted:
      ParseSubmitted(message.submitted(), Field(root, "submitted"), &checks,
                     &out.event.emplace<Submitted>());
      break;
    case Case::kCancelled:
      out.event = Cancelled{message.cancelled().stream()};
      break;
    case Case::kWorkerAttached: {
      auto& attached = out.event.emplace<WorkerAttached>();
      attached.connection = message.worker_attached().connection();
      Parse(message.worker_attached().hello(), Field(root, "worker_attached"), &checks,
            &attached.hello);
      break;
    }
    case Case::kWorkerDetached:
      out.event = WorkerDetached{message.worker_detached().connection(),
                                 message.worker_detached().reason()};
      break;
    case Case::kWorkerReported:
      ParseReported(message.worker_reported(), Field(root, "worker_reported"), &checks,
                    &out.event.emplace<WorkerReported>());
      break;
    case Case::kWorkerQueueFull:
      out.event = WorkerQueueFull{message.worker_queue_full().connection()};
      break;
    case Case::kDrainRequested:
      out.event = DrainRequested{};
      break;
    case Case::kTimePassed:
      out.event = TimePassed{};
      break;
    case Case::EVENT_NOT_SET:
      checks.Require(false, Field(root, "event"), "is missing or unknown");
      break;
  }
  if (!checks.ok()) return checks.status();
  return out;
}

void Write(absl::Time now, const Event& event, pb::JournalEvent* message) {
  message->set_now_ns(absl::ToUnixNanos(now));
  std::visit(EventWriter{message}, event);
}

void Write(const Action& action, pb::JournalAction* message) {
  std::visit(ActionWriter{message}, action);
}

bool WriteNote(const Action& action, pb::JournalNote* note) {
  if (const auto* send = std::get_if<SendToWorker>(&action)) return NoteCommand(*send, note);
  if (const auto* commit = std::get_if<CommitTokens>(&action)) {
    const Committed& committed = commit->committed;
    pb::JournalCommit* out = note->mutable_commit();
    out->set_stream(commit->stream);
    pb::Committed* brief = out->mutable_committed();
    if (committed.finish != FinishReason::kNone) {
      Write(committed, brief);
      brief->clear_token_ids();
      return true;
    }
    brief->set_output_index(committed.output_index);
    for (TokenOrigin origin : committed.origins) {
      brief->add_origins(static_cast<pb::TokenOrigin>(origin));
    }
    return true;
  }
  if (const auto* fail = std::get_if<FailRequest>(&action)) {
    WriteFailure(*fail, note->mutable_failure());
    return true;
  }
  if (const auto* close = std::get_if<CloseWorker>(&action)) {
    WriteClosed(*close, note->mutable_close_worker());
    return true;
  }
  if (const auto* refuse = std::get_if<RefuseWorker>(&action)) {
    WriteRefuse(*refuse, note->mutable_refuse_worker());
    return true;
  }
  return false;
}

}  // namespace mirrorsd::wire
