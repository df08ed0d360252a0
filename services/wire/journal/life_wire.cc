// The first record of a journal: build and configuration.

#include <limits>

#include "services/wire/field_check.h"
#include "services/wire/journal/journal_wire.h"
#include "services/wire/limits.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;
using scheduler::CoreConfig;

constexpr int32_t kMaxPolicies = 256;
constexpr int64_t kMaxSeconds = int64_t{100} * 366 * 24 * 3600;  // more is as good as for ever
constexpr int64_t kQuartersPerSecond = 4'000'000'000;

absl::Duration Quarter() { return absl::Nanoseconds(1) / 4; }

void WriteDuration(absl::Duration duration, pb::JournalDuration* message) {
  if (duration == absl::InfiniteDuration()) {
    message->set_infinite(true);
    return;
  }
  absl::Duration rest;
  message->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  message->set_quarter_nanoseconds(static_cast<uint32_t>(absl::IDivDuration(rest, Quarter(), &rest)));
}

void ParseDuration(const pb::JournalDuration& message, const Field& field, Checks* checks,
                   absl::Duration* duration) {
  checks->InRange(Field(field, "seconds"), message.seconds(), 0, kMaxSeconds);
  checks->InRange(Field(field, "quarter_nanoseconds"), message.quarter_nanoseconds(), 0,
                  kQuartersPerSecond - 1);
  *duration = message.infinite() ? absl::InfiniteDuration()
                                 : absl::Seconds(message.seconds()) +
                                       Quarter() * int64_t{message.quarter_nanoseconds()};
}

void ParseMode(int mode, const Field& field, Checks* checks, SpeculationMode* out) {
  checks->InRange(field, mode, pb::SPECULATION_MODE_OFF, pb::SPECULATION_MODE_AUTO);
  if (checks->ok()) *out = static_cast<SpeculationMode>(mode);
}

void ParseBuild(const pb::JournalLife& message, const Field& root, Checks* checks,
                RecordedBuild* build) {
  checks->InRange(Field(root, "schema_revision"), message.schema_revision(), kSchemaRevision,
                  kSchemaRevision);
  checks->Bytes(Field(root, "version"), message.version(), 0, kMaxNameBytes);
  checks->Bytes(Field(root, "compiler"), message.compiler(), 0, kMaxNameBytes);
  *build = {message.schema_revision(), message.version(), message.compiler()};
}

void ParsePolicies(const pb::JournalConfig& message, const Field& field, Checks* checks,
                   std::vector<RecordedPolicy>* policies) {
  checks->Count(Field(field, "policies"), message.policies_size(), 1, kMaxPolicies);
  if (!checks->ok()) return;
  bool has_default = false;
  for (int i = 0; i < message.policies_size() && checks->ok(); ++i) {
    const Field policy(field, "policies", i);
    checks->Bytes(Field(policy, "name"), message.policies(i).name(), 1, kMaxNameBytes);
    RecordedPolicy& out = policies->emplace_back();
    out.name = message.policies(i).name();
    ParseMode(message.policies(i).mode(), Field(policy, "mode"), checks, &out.mode);
    has_default |= message.policies(i).mode() == message.speculation();
  }
  checks->Require(has_default, Field(field, "speculation"), "has no policy");
}

void ParseConfig(const pb::JournalConfig& message, const Field& field, Checks* checks,
                 CoreConfig* config) {
  auto& [epoch, vocabulary, model, other_numerics, policies, speculation, num_speculative_tokens,
         branch_top_k, branch_budget, miss_fallback, max_num_seqs, max_queued, max_prefill_rows,
         queue_timeout, worker_timeout, loss_timeout, min_round_timeout, end_timeout,
         stall_timeout, min_draft_wait, max_draft_wait, max_missed_deadlines] = *config;
  const auto count = [&](const char* name, int32_t value, int32_t low, int32_t* out) {
    checks->InRange(Field(field, name), value, low, std::numeric_limits<int32_t>::max());
    *out = value;
  };
  const auto duration = [&](const char* name, const pb::JournalDuration& value,
                            absl::Duration* out) {
    ParseDuration(value, Field(field, name), checks, out);
  };
  epoch = message.scheduler_epoch();
  checks->Bytes(Field(field, "vocabulary_fingerprint"), message.vocabulary_fingerprint(), 0,
                kMaxNameBytes);
  vocabulary = message.vocabulary_fingerprint();
  checks->Bytes(Field(field, "model_fingerprint"), message.model_fingerprint(), 0, kMaxNameBytes);
  model = message.model_fingerprint();
  other_numerics = message.allow_other_numerics();
  policies.clear();
  ParseMode(message.speculation(), Field(field, "speculation"), checks, &speculation);
  checks->InRange(Field(field, "num_speculative_tokens"), message.num_speculative_tokens(), 0,
                  kMaxWindowTokens);
  num_speculative_tokens = message.num_speculative_tokens();
  count("branch_top_k", message.branch_top_k(), 1, &branch_top_k);
  count("branch_budget", message.branch_budget(), 1, &branch_budget);
  checks->InRange(Field(field, "miss_fallback"), message.miss_fallback(), 0,
                  static_cast<int64_t>(MissFallback::kHold));
  miss_fallback = static_cast<MissFallback>(message.miss_fallback());
  count("max_num_seqs", message.max_num_seqs(), 1, &max_num_seqs);
  count("max_queued", message.max_queued(), 0, &max_queued);
  count("max_prefill_rows_per_round", message.max_prefill_rows_per_round(), 1, &max_prefill_rows);
  count("max_missed_deadlines", message.max_missed_deadlines(), 1, &max_missed_deadlines);
  duration("queue_timeout", message.queue_timeout(), &queue_timeout);
  duration("worker_timeout", message.worker_timeout(), &worker_timeout);
  duration("verifier_loss_timeout", message.verifier_loss_timeout(), &loss_timeout);
  duration("min_round_timeout", message.min_round_timeout(), &min_round_timeout);
  duration("end_timeout", message.end_timeout(), &end_timeout);
  duration("stall_timeout", message.stall_timeout(), &stall_timeout);
  duration("min_draft_wait", message.min_draft_wait(), &min_draft_wait);
  duration("max_draft_wait", message.max_draft_wait(), &max_draft_wait);
}

void WriteConfig(const CoreConfig& config, const std::vector<RecordedPolicy>& recorded,
                 pb::JournalConfig* message) {
  const auto& [epoch, vocabulary, model, other_numerics, policies, speculation,
               num_speculative_tokens, branch_top_k, branch_budget, miss_fallback, max_num_seqs,
               max_queued, max_prefill_rows, queue_timeout, worker_timeout, loss_timeout,
               min_round_timeout, end_timeout, stall_timeout, min_draft_wait, max_draft_wait,
               max_missed_deadlines] = config;
  message->set_scheduler_epoch(epoch);
  message->set_vocabulary_fingerprint(vocabulary);
  message->set_model_fingerprint(model);
  message->set_allow_other_numerics(other_numerics);
  for (const RecordedPolicy& policy : recorded) {
    message->add_policies()->set_name(policy.name);
    message->mutable_policies()->rbegin()->set_mode(static_cast<pb::SpeculationMode>(policy.mode));
  }
  message->set_speculation(static_cast<pb::SpeculationMode>(speculation));
  message->set_num_speculative_tokens(num_speculative_tokens);
  message->set_branch_top_k(branch_top_k);
  message->set_branch_budget(branch_budget);
  message->set_miss_fallback(static_cast<uint32_t>(miss_fallback));
  message->set_max_num_seqs(max_num_seqs);
  message->set_max_queued(max_queued);
  message->set_max_prefill_rows_per_round(max_prefill_rows);
  message->set_max_missed_deadlines(max_missed_deadlines);
  WriteDuration(queue_timeout, message->mutable_queue_timeout());
  WriteDuration(worker_timeout, message->mutable_worker_timeout());
  WriteDuration(loss_timeout, message->mutable_verifier_loss_timeout());
  WriteDuration(min_round_timeout, message->mutable_min_round_timeout());
  WriteDuration(end_timeout, message->mutable_end_timeout());
  WriteDuration(stall_timeout, message->mutable_stall_timeout());
  WriteDuration(min_draft_wait, message->mutable_min_draft_wait());
  WriteDuration(max_draft_wait, message->mutable_max_draft_wait());
}

}  // namespace

absl::StatusOr<RecordedLife> Parse(const pb::JournalLife& message) {
  Checks checks;
  const Field root("");
  RecordedLife life;
  ParseBuild(message, root, &checks, &life.build);
  life.started = absl::FromUnixNanos(message.started_unix_ns());
  const Field config(root, "config");
  checks.Require(message.has_config(), config, "is missing");
  ParseConfig(message.config(), config, &checks, &life.config);
  ParsePolicies(message.config(), config, &checks, &life.policies);
  if (!checks.ok()) return checks.status();
  return life;
}

void Write(const RecordedLife& life, pb::JournalLife* message) {
  const auto& [build, started, config, policies] = life;
  message->set_schema_revision(build.schema_revision);
  message->set_version(WireText(build.version, kMaxNameBytes));
  message->set_compiler(WireText(build.compiler, kMaxNameBytes));
  message->set_started_unix_ns(absl::ToUnixNanos(started));
  WriteConfig(config, policies, message->mutable_config());
}

}  // namespace mirrorsd::wire
