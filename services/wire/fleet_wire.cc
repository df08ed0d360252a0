#include "services/wire/fleet_wire.h"

#include <utility>

#include "services/wire/draft_wire.h"
#include "services/wire/limits.h"
#include "services/wire/sequence_wire.h"
#include "services/wire/verifier_wire.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;

void ParseHelloNumbers(const pb::Hello& message, const Field& field, Checks* checks) {
  checks->InRange(Field(field, "context_length"), message.context_length(), 1, kMaxContextTokens);
  checks->InRange(Field(field, "vocabulary_size"), message.vocabulary_size(), 1,
                  kMaxContextTokens);
  checks->InRange(Field(field, "num_layers"), message.num_layers(), 1, 65536);
  checks->InRange(Field(field, "kv_block_tokens"), message.kv_block_tokens(), 1, 65536);
  const Field limits(field, "limits");
  checks->InRange(Field(limits, "max_sequences"), message.limits().max_sequences(), 1, 1 << 20);
  checks->InRange(Field(limits, "max_rows"), message.limits().max_rows(), 1, 1 << 20);
  checks->InRange(Field(limits, "max_window"), message.limits().max_window(), 0, kMaxWindowTokens);
  const Field times(field, "step_times");
  checks->NotNegative(Field(times, "base_ns"), message.step_times().base_ns());
  checks->NotNegative(Field(times, "per_row_ns"), message.step_times().per_row_ns());
  checks->NotNegative(Field(field, "process_id"), message.process_id());
}

// Parses one alternative of a oneof into a variant.
template <typename T, typename Message, typename Variant>
void ParseAs(const Message& message, const Field& parent, const char* name, Checks* checks,
             Variant* out) {
  Parse(message, Field(parent, name), checks, &out->template emplace<T>());
}

void ParseReport(const pb::WorkerReport& message, const Field& field, Checks* checks,
                 WorkerReport* report) {
  using Case = pb::WorkerReport;
  switch (message.payload_case()) {
    case Case::kHeartbeat:
      return ParseAs<Heartbeat>(message.heartbeat(), field, "heartbeat", checks, report);
    case Case::kDrain:
      report->emplace<Drain>();
      return;
    case Case::kSequenceStarted:
      return ParseAs<SequenceStarted>(message.sequence_started(), field, "sequence_started", checks,
                                      report);
    case Case::kEarlyExitReported:
      return ParseAs<EarlyExitReported>(message.early_exit_reported(), field,
                                        "early_exit_reported", checks, report);
    case Case::kVerifyDone:
      return ParseAs<VerifyDone>(message.verify_done(), field, "verify_done", checks, report);
    case Case::kSequenceEnded:
      return ParseAs<SequenceEnded>(message.sequence_ended(), field, "sequence_ended", checks,
                                    report);
    case Case::kRolloutProgress:
      return ParseAs<RolloutProgress>(message.rollout_progress(), field, "rollout_progress", checks,
                                      report);
    case Case::kSequenceState:
      return ParseAs<SequenceState>(message.sequence_state(), field, "sequence_state", checks,
                                    report);
    case Case::PAYLOAD_NOT_SET:
      return checks->Require(false, Field(field, "payload"), "is missing or unknown");
  }
}

void ParseCommand(const pb::WorkerCommand& message, const Field& field, Checks* checks,
                  WorkerCommand* command) {
  using Case = pb::WorkerCommand;
  switch (message.payload_case()) {
    case Case::kStartSequence:
      return ParseAs<StartSequence>(message.start_sequence(), field, "start_sequence", checks,
                                    command);
    case Case::kAppendTokens:
      return ParseAs<AppendTokens>(message.append_tokens(), field, "append_tokens", checks,
                                   command);
    case Case::kEndSequence:
      return ParseAs<EndSequence>(message.end_sequence(), field, "end_sequence", checks, command);
    case Case::kStartVerify:
      return ParseAs<StartVerify>(message.start_verify(), field, "start_verify", checks, command);
    case Case::kStartRollout:
      return ParseAs<StartRollout>(message.start_rollout(), field, "start_rollout", checks,
                                   command);
    case Case::kDrain:
      command->emplace<Drain>();
      return;
    case Case::PAYLOAD_NOT_SET:
      return checks->Require(false, Field(field, "payload"), "is missing or unknown");
  }
}

}  // namespace

void Parse(const pb::Hello& message, const Field& field, Checks* checks, Hello* hello) {
  checks->InRange(Field(field, "role"), message.role(), pb::WORKER_ROLE_VERIFIER,
                  pb::WORKER_ROLE_DRAFT);
  checks->Bytes(Field(field, "name"), message.name(), 0, kMaxNameBytes);
  checks->Bytes(Field(field, "boot_id"), message.boot_id(), 0, kMaxNameBytes);
  checks->Bytes(Field(field, "model_name"), message.model_name(), 0, kMaxNameBytes);
  checks->Bytes(Field(field, "model_fingerprint"), message.model_fingerprint(), 0, kMaxNameBytes);
  checks->Bytes(Field(field, "vocabulary_fingerprint"), message.vocabulary_fingerprint(), 0,
                kMaxNameBytes);
  checks->Bytes(Field(field, "numerics_id"), message.numerics_id(), 0, kMaxNameBytes);
  hello->schema_revision = message.schema_revision();
  if (!checks->ok()) return;
  hello->role = static_cast<WorkerRole>(message.role());
  hello->name = message.name();
  hello->boot_id = message.boot_id();
  hello->model_name = message.model_name();
  hello->model_fingerprint = message.model_fingerprint();
  hello->vocabulary_fingerprint = message.vocabulary_fingerprint();
  hello->numerics_id = message.numerics_id();
  if (message.schema_revision() != kSchemaRevision) return;  // its other fields may mean anything

  ParseHelloNumbers(message, field, checks);
  Parse(message.blocks(), Field(field, "blocks"), checks, &hello->blocks);
  hello->context_length = message.context_length();
  hello->vocabulary_size = message.vocabulary_size();
  hello->num_layers = message.num_layers();
  hello->kv_block_tokens = message.kv_block_tokens();
  hello->limits = {.max_sequences = message.limits().max_sequences(),
                   .max_rows = message.limits().max_rows(),
                   .max_window = message.limits().max_window()};
  hello->step_times = {message.step_times().base_ns(), message.step_times().per_row_ns()};
  hello->process_id = message.process_id();
}

void Parse(const pb::Heartbeat& message, const Field& field, Checks* checks,
           Heartbeat* heartbeat) {
  checks->NotNegative(Field(field, "sent_at_ns"), message.sent_at_ns());
  checks->NotNegative(Field(field, "num_rounds_done"), message.num_rounds_done());
  heartbeat->sent_at_ns = message.sent_at_ns();
  heartbeat->num_rounds_done = message.num_rounds_done();
  Parse(message.blocks(), Field(field, "blocks"), checks, &heartbeat->blocks);
}

absl::StatusOr<FromWorker> Parse(const pb::WorkerMessage& message) {
  Checks checks;
  const Field root("");
  FromWorker out{.fence = {message.scheduler_epoch(), message.incarnation()}};
  if (message.has_hello()) {
    checks.Count(Field(root, "reports"), message.reports_size(), 0, 0);
    Parse(message.hello(), Field(root, "hello"), &checks, &out.content.emplace<Hello>());
  } else {
    checks.Count(Field(root, "reports"), message.reports_size(), 0, kMaxBatchEntries);
    if (!checks.ok()) return checks.status();
    auto& reports = std::get<std::vector<WorkerReport>>(out.content);
    reports.resize(message.reports_size());
    for (int i = 0; i < message.reports_size() && checks.ok(); ++i) {
      ParseReport(message.reports(i), Field(root, "reports", i), &checks, &reports[i]);
    }
  }
  if (!checks.ok()) return checks.status();
  return out;
}

absl::StatusOr<FromScheduler> Parse(const pb::SchedulerMessage& message) {
  Checks checks;
  const Field root("");
  FromScheduler out{.fence = {message.scheduler_epoch(), message.incarnation()}};
  const Field commands_field(root, "commands");
  switch (message.greeting_case()) {
    case pb::SchedulerMessage::kWelcome:
      checks.Count(commands_field, message.commands_size(), 0, 0);
      out.content = Welcome{message.welcome().scheduler_epoch(), message.welcome().incarnation()};
      break;
    case pb::SchedulerMessage::kRefused: {
      const Field refused(root, "refused");
      checks.Count(commands_field, message.commands_size(), 0, 0);
      checks.Bytes(Field(refused, "reason"), message.refused().reason(), 1, kMaxReasonBytes);
      checks.Bytes(Field(refused, "message"), message.refused().message(), 0,
                   kMaxMessageTextBytes);
      out.content = Refused{message.refused().reason(), message.refused().message(),
                            message.refused().retryable()};
      break;
    }
    case pb::SchedulerMessage::GREETING_NOT_SET: {
      checks.Count(commands_field, message.commands_size(), 0, kMaxBatchEntries);
      if (!checks.ok()) return checks.status();
      auto& commands = std::get<std::vector<WorkerCommand>>(out.content);
      commands.resize(message.commands_size());
      for (int i = 0; i < message.commands_size() && checks.ok(); ++i) {
        ParseCommand(message.commands(i), Field(root, "commands", i), &checks, &commands[i]);
      }
      break;
    }
  }
  if (!checks.ok()) return checks.status();
  return out;
}

void Write(const Hello& hello, pb::Hello* message) {
  message->set_schema_revision(hello.schema_revision);
  message->set_role(static_cast<pb::WorkerRole>(hello.role));
  message->set_name(WireText(hello.name, kMaxNameBytes));
  message->set_boot_id(WireText(hello.boot_id, kMaxNameBytes));
  message->set_model_name(WireText(hello.model_name, kMaxNameBytes));
  message->set_model_fingerprint(hello.model_fingerprint);
  message->set_vocabulary_fingerprint(hello.vocabulary_fingerprint);
  message->set_numerics_id(hello.numerics_id);
  message->set_context_length(hello.context_length);
  message->set_vocabulary_size(hello.vocabulary_size);
  message->set_num_layers(hello.num_layers);
  message->set_kv_block_tokens(hello.kv_block_tokens);
  message->mutable_limits()->set_max_sequences(hello.limits.max_sequences);
  message->mutable_limits()->set_max_rows(hello.limits.max_rows);
  message->mutable_limits()->set_max_window(hello.limits.max_window);
  Write(hello.blocks, message->mutable_blocks());
  message->mutable_step_times()->set_base_ns(hello.step_times.base_ns);
  message->mutable_step_times()->set_per_row_ns(hello.step_times.per_row_ns);
  message->set_process_id(hello.process_id);
}

void Write(const Heartbeat& heartbeat, pb::Heartbeat* message) {
  message->set_sent_at_ns(heartbeat.sent_at_ns);
  message->set_num_rounds_done(heartbeat.num_rounds_done);
  Write(heartbeat.blocks, message->mutable_blocks());
}

void Write(const Welcome& welcome, pb::Welcome* message) {
  message->set_scheduler_epoch(welcome.scheduler_epoch);
  message->set_incarnation(welcome.incarnation);
}

void Write(const Refused& refused, pb::Refused* message) {
  message->set_reason(WireText(refused.reason, kMaxReasonBytes));
  message->set_message(WireText(refused.message, kMaxMessageTextBytes));
  message->set_retryable(refused.retryable);
}

void Write(const WorkerReport& report, pb::WorkerReport* message) {
  struct Writer {
    pb::WorkerReport* out;
    void operator()(const Heartbeat& x) { Write(x, out->mutable_heartbeat()); }
    void operator()(const Drain&) { out->mutable_drain(); }
    void operator()(const SequenceStarted& x) { Write(x, out->mutable_sequence_started()); }
    void operator()(const EarlyExitReported& x) { Write(x, out->mutable_early_exit_reported()); }
    void operator()(const VerifyDone& x) { Write(x, out->mutable_verify_done()); }
    void operator()(const SequenceEnded& x) { Write(x, out->mutable_sequence_ended()); }
    void operator()(const RolloutProgress& x) { Write(x, out->mutable_rollout_progress()); }
    void operator()(const SequenceState& x) { Write(x, out->mutable_sequence_state()); }
  };
  std::visit(Writer{message}, report);
}

void Write(const WorkerCommand& command, pb::WorkerCommand* message) {
  struct Writer {
    pb::WorkerCommand* out;
    void operator()(const StartSequence& x) { Write(x, out->mutable_start_sequence()); }
    void operator()(const AppendTokens& x) { Write(x, out->mutable_append_tokens()); }
    void operator()(const EndSequence& x) { Write(x, out->mutable_end_sequence()); }
    void operator()(const StartVerify& x) { Write(x, out->mutable_start_verify()); }
    void operator()(const StartRollout& x) { Write(x, out->mutable_start_rollout()); }
    void operator()(const Drain&) { out->mutable_drain(); }
  };
  std::visit(Writer{message}, command);
}

}  // namespace mirrorsd::wire
