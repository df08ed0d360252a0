#include "services/wire/scheduling_wire.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "services/wire/field_check.h"
#include "services/wire/limits.h"
#include "services/wire/sequence_wire.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;

constexpr char kVerifierRole[] = "verifier";
constexpr char kDraftRole[] = "draft";

void CheckRevision(uint32_t revision, Checks* checks) {
  const Field root("");
  checks->InRange(Field(root, "schema_revision"), revision, kSchemaRevision, kSchemaRevision);
}

template <typename List>
void ParsePositions(const List& counts, const Field& field, Checks* checks,
                    std::vector<int64_t>* out) {
  checks->Count(field, counts.size(), 0, kMaxWindowTokens);
  for (int64_t count : counts) checks->NotNegative(field, count);
  if (checks->ok()) out->assign(counts.begin(), counts.end());
}

void ParseStats(const pb::SpeculationStats& message, const Field& field, Checks* checks,
                SpeculationStats* stats) {
  checks->NotNegative(Field(field, "rounds"), message.rounds());
  checks->NotNegative(Field(field, "drafted_tokens"), message.drafted_tokens());
  checks->NotNegative(Field(field, "accepted_tokens"), message.accepted_tokens());
  checks->NotNegative(Field(field, "empty_window_rounds"), message.empty_window_rounds());
  checks->NotNegative(Field(field, "max_batch"), message.max_batch());
  checks->NotNegative(Field(field, "resumes"), message.resumes());
  checks->NotNegative(Field(field, "branch_hits"), message.branch_hits());
  checks->NotNegative(Field(field, "branch_hit_depth_sum"), message.branch_hit_depth_sum());
  checks->NotNegative(Field(field, "branch_misses"), message.branch_misses());
  checks->NotNegative(Field(field, "ngram_window_rounds"), message.ngram_window_rounds());
  checks->NotNegative(Field(field, "held_rounds"), message.held_rounds());
  ParsePositions(message.accepted_per_position(), Field(field, "accepted_per_position"), checks,
                 &stats->accepted_per_position);
  ParsePositions(message.drafted_per_position(), Field(field, "drafted_per_position"), checks,
                 &stats->drafted_per_position);
  stats->rounds = message.rounds();
  stats->drafted_tokens = message.drafted_tokens();
  stats->accepted_tokens = message.accepted_tokens();
  stats->empty_window_rounds = message.empty_window_rounds();
  stats->max_batch = message.max_batch();
  stats->resumes = message.resumes();
  stats->branch_hits = message.branch_hits();
  stats->branch_hit_depth_sum = message.branch_hit_depth_sum();
  stats->branch_misses = message.branch_misses();
  stats->ngram_window_rounds = message.ngram_window_rounds();
  stats->held_rounds = message.held_rounds();
}

void ParseWorker(const pb::AttachedWorker& message, const Field& field, Checks* checks,
                 AttachedWorker* worker) {
  checks->Bytes(Field(field, "name"), message.name(), 0, kMaxNameBytes);
  checks->Require(message.role() == kVerifierRole || message.role() == kDraftRole,
                  Field(field, "role"), "is no role", "verifier or draft");
  checks->Bytes(Field(field, "state"), message.state(), 1, kMaxReasonBytes);
  checks->Bytes(Field(field, "model_name"), message.model_name(), 0, kMaxNameBytes);
  checks->Bytes(Field(field, "numerics_id"), message.numerics_id(), 0, kMaxNameBytes);
  checks->NotNegative(Field(field, "process_id"), message.process_id());
  checks->InRange(Field(field, "kv_blocks_total"), message.kv_blocks_total(), 0, kMaxKvBlocks);
  checks->InRange(Field(field, "kv_blocks_free"), message.kv_blocks_free(), 0,
                  message.kv_blocks_total());
  if (!checks->ok()) return;  // the difference could overflow
  checks->InRange(Field(field, "kv_blocks_evictable"), message.kv_blocks_evictable(), 0,
                  message.kv_blocks_total() - message.kv_blocks_free());
  checks->NotNegative(Field(field, "num_sequences"), message.num_sequences());
  *worker = {.name = message.name(),
             .role = message.role() == kDraftRole ? WorkerRole::kDraft : WorkerRole::kVerifier,
             .state = message.state(),
             .model_name = message.model_name(),
             .numerics_id = message.numerics_id(),
             .process_id = message.process_id(),
             .blocks = {.total = message.kv_blocks_total(),
                        .free = message.kv_blocks_free(),
                        .evictable = message.kv_blocks_evictable()},
             .num_sequences = message.num_sequences()};
}

void CheckCell(const pb::DescribeCellResponse& message, const Field& root, Checks* checks) {
  CheckRevision(message.schema_revision(), checks);
  checks->Bytes(Field(root, "not_ready_reason"), message.not_ready_reason(), 0,
                kMaxMessageTextBytes);
  checks->Bytes(Field(root, "model_name"), message.model_name(), 0, kMaxNameBytes);
  checks->Bytes(Field(root, "model_fingerprint"), message.model_fingerprint(), 0, kMaxNameBytes);
  checks->Bytes(Field(root, "vocabulary_fingerprint"), message.vocabulary_fingerprint(), 0,
                kMaxNameBytes);
  checks->InRange(Field(root, "context_length"), message.context_length(), 0, kMaxContextTokens);
  checks->InRange(Field(root, "vocabulary_size"), message.vocabulary_size(), 0, kMaxContextTokens);
  checks->InRange(Field(root, "default_speculation"), message.default_speculation(),
                  pb::SPECULATION_MODE_UNSPECIFIED, pb::SPECULATION_MODE_AUTO);
  checks->InRange(Field(root, "default_num_speculative_tokens"),
                  message.default_num_speculative_tokens(), 0, kMaxWindowTokens);
  checks->Count(Field(root, "speculation_degraded"), message.speculation_degraded_size(), 0, 64);
  for (const std::string& reason : message.speculation_degraded()) {
    checks->Bytes(Field(root, "speculation_degraded"), reason, 1, kMaxReasonBytes);
  }
  checks->NotNegative(Field(root, "num_requests_running"), message.num_requests_running());
  checks->NotNegative(Field(root, "num_requests_waiting"), message.num_requests_waiting());
  checks->Count(Field(root, "workers"), message.workers_size(), 0, kMaxAttachedWorkers);
}

}  // namespace

absl::StatusOr<SubmitRequest> Parse(const pb::SubmitRequest& message) {
  Checks checks;
  const Field root("");
  CheckRevision(message.schema_revision(), &checks);
  checks.Bytes(Field(root, "request_id"), message.request_id(), 1, kMaxRequestIdBytes);
  checks.Bytes(Field(root, "vocabulary_fingerprint"), message.vocabulary_fingerprint(), 1,
               kMaxNameBytes);
  checks.TokenIds(Field(root, "token_ids"), message.token_ids(), 1, kMaxPromptTokens);
  checks.TokenIds(Field(root, "end_token_ids"), message.end_token_ids(), 0, kMaxEndTokens);
  checks.InRange(Field(root, "max_tokens"), message.max_tokens(), 1, kMaxContextTokens);
  checks.InRange(Field(root, "deadline_ns"), message.deadline_ns(), 0, kMaxDeadlineNs);
  checks.InRange(Field(root, "speculation"), message.speculation(),
                 pb::SPECULATION_MODE_UNSPECIFIED, pb::SPECULATION_MODE_AUTO);
  if (message.has_num_speculative_tokens()) {
    checks.InRange(Field(root, "num_speculative_tokens"), message.num_speculative_tokens(), 0,
                   kMaxWindowTokens);
  }
  if (message.has_branch_top_k()) {
    checks.InRange(Field(root, "branch_top_k"), message.branch_top_k(), 1, kMaxBranchTopK);
  }
  checks.Require(message.has_sampling(), Field(root, "sampling"), "is missing");
  SubmitRequest request;
  Parse(message.sampling(), Field(root, "sampling"), &checks, &request.sampling);
  if (!checks.ok()) return checks.status();

  request.request_id = message.request_id();
  request.vocabulary_fingerprint = message.vocabulary_fingerprint();
  request.token_ids.assign(message.token_ids().begin(), message.token_ids().end());
  request.end_token_ids.assign(message.end_token_ids().begin(), message.end_token_ids().end());
  request.max_tokens = message.max_tokens();
  if (message.deadline_ns() > 0) request.deadline = absl::Nanoseconds(message.deadline_ns());
  request.speculation = static_cast<SpeculationMode>(message.speculation());
  if (message.has_num_speculative_tokens()) {
    request.num_speculative_tokens = message.num_speculative_tokens();
  }
  if (message.has_branch_top_k()) request.branch_top_k = message.branch_top_k();
  return request;
}

absl::StatusOr<Committed> Parse(const pb::Committed& message) {
  Checks checks;
  const Field root("");
  Committed committed;
  checks.InRange(Field(root, "output_index"), message.output_index(), 0, kMaxContextTokens);
  checks.TokenIds(Field(root, "token_ids"), message.token_ids(), 0, kMaxCommittedTokens);
  checks.Count(Field(root, "origins"), message.origins_size(), message.token_ids_size(),
               message.token_ids_size());
  checks.InRange(Field(root, "finish"), message.finish(), pb::FINISH_REASON_UNSPECIFIED,
                 pb::FINISH_REASON_ERROR);
  checks.NotNegative(Field(root, "queue_time_ns"), message.queue_time_ns());
  ParseStats(message.stats(), Field(root, "stats"), &checks, &committed.stats);
  CheckLogprobs(message.logprobs(), Field(root, "logprobs"), message.token_ids_size(), &checks);
  if (!checks.ok()) return checks.status();

  committed.output_index = message.output_index();
  committed.token_ids.assign(message.token_ids().begin(), message.token_ids().end());
  committed.origins.reserve(message.origins_size());
  for (int i = 0; i < message.origins_size(); ++i) {
    checks.InRange(Field(root, "origins", i), message.origins(i), pb::TOKEN_ORIGIN_PREFILL,
                   pb::TOKEN_ORIGIN_BONUS);
    committed.origins.push_back(static_cast<TokenOrigin>(message.origins(i)));
  }
  if (!checks.ok()) return checks.status();
  committed.finish = static_cast<FinishReason>(message.finish());
  committed.queue_time = absl::Nanoseconds(message.queue_time_ns());
  return committed;
}

absl::StatusOr<CellDescription> Parse(const pb::DescribeCellResponse& message) {
  Checks checks;
  const Field root("");
  CheckCell(message, root, &checks);
  if (!checks.ok()) return checks.status();
  CellDescription cell;
  cell.schema_revision = message.schema_revision();
  cell.scheduler_epoch = message.scheduler_epoch();
  cell.ready = message.ready();
  cell.not_ready_reason = message.not_ready_reason();
  cell.model_name = message.model_name();
  cell.model_fingerprint = message.model_fingerprint();
  cell.vocabulary_fingerprint = message.vocabulary_fingerprint();
  cell.context_length = message.context_length();
  cell.vocabulary_size = message.vocabulary_size();
  cell.default_speculation = static_cast<SpeculationMode>(message.default_speculation());
  cell.default_num_speculative_tokens = message.default_num_speculative_tokens();
  cell.speculation_degraded.assign(message.speculation_degraded().begin(),
                                   message.speculation_degraded().end());
  cell.num_requests_running = message.num_requests_running();
  cell.num_requests_waiting = message.num_requests_waiting();
  cell.workers.resize(message.workers_size());
  for (int i = 0; i < message.workers_size(); ++i) {
    ParseWorker(message.workers(i), Field(root, "workers", i), &checks, &cell.workers[i]);
  }
  if (!checks.ok()) return checks.status();
  return cell;
}

void Write(const SubmitRequest& request, pb::SubmitRequest* message) {
  message->set_request_id(request.request_id);
  message->set_vocabulary_fingerprint(request.vocabulary_fingerprint);
  message->mutable_token_ids()->Assign(request.token_ids.begin(), request.token_ids.end());
  Write(request.sampling, message->mutable_sampling());
  message->mutable_end_token_ids()->Assign(request.end_token_ids.begin(),
                                           request.end_token_ids.end());
  message->set_max_tokens(request.max_tokens);
  if (request.deadline.has_value()) {
    // 0 says "none": a deadline that has passed already is the shortest there is.
    message->set_deadline_ns(
        std::clamp<int64_t>(absl::ToInt64Nanoseconds(*request.deadline), 1, kMaxDeadlineNs));
  }
  message->set_speculation(static_cast<pb::SpeculationMode>(request.speculation));
  if (request.num_speculative_tokens.has_value()) {
    message->set_num_speculative_tokens(*request.num_speculative_tokens);
  }
  if (request.branch_top_k.has_value()) message->set_branch_top_k(*request.branch_top_k);
  message->set_schema_revision(kSchemaRevision);
}

void Write(const Committed& committed, pb::Committed* message) {
  message->set_output_index(committed.output_index);
  message->mutable_token_ids()->Assign(committed.token_ids.begin(), committed.token_ids.end());
  for (TokenOrigin origin : committed.origins) {
    message->add_origins(static_cast<pb::TokenOrigin>(origin));
  }
  message->set_finish(static_cast<pb::FinishReason>(committed.finish));
  pb::SpeculationStats* stats = message->mutable_stats();
  stats->set_rounds(committed.stats.rounds);
  stats->set_drafted_tokens(committed.stats.drafted_tokens);
  stats->set_accepted_tokens(committed.stats.accepted_tokens);
  stats->mutable_accepted_per_position()->Assign(committed.stats.accepted_per_position.begin(),
                                                 committed.stats.accepted_per_position.end());
  stats->mutable_drafted_per_position()->Assign(committed.stats.drafted_per_position.begin(),
                                                committed.stats.drafted_per_position.end());
  stats->set_empty_window_rounds(committed.stats.empty_window_rounds);
  stats->set_max_batch(committed.stats.max_batch);
  stats->set_resumes(committed.stats.resumes);
  stats->set_branch_hits(committed.stats.branch_hits);
  stats->set_branch_hit_depth_sum(committed.stats.branch_hit_depth_sum);
  stats->set_branch_misses(committed.stats.branch_misses);
  stats->set_ngram_window_rounds(committed.stats.ngram_window_rounds);
  stats->set_held_rounds(committed.stats.held_rounds);
  message->set_queue_time_ns(absl::ToInt64Nanoseconds(committed.queue_time));
}

void Write(const CellDescription& cell, pb::DescribeCellResponse* message) {
  message->set_schema_revision(cell.schema_revision);
  message->set_scheduler_epoch(cell.scheduler_epoch);
  message->set_ready(cell.ready);
  message->set_not_ready_reason(WireText(cell.not_ready_reason, kMaxMessageTextBytes));
  message->set_model_name(WireText(cell.model_name, kMaxNameBytes));
  message->set_model_fingerprint(cell.model_fingerprint);
  message->set_vocabulary_fingerprint(cell.vocabulary_fingerprint);
  message->set_context_length(cell.context_length);
  message->set_vocabulary_size(cell.vocabulary_size);
  message->set_default_speculation(static_cast<pb::SpeculationMode>(cell.default_speculation));
  message->set_default_num_speculative_tokens(cell.default_num_speculative_tokens);
  for (const std::string& reason : cell.speculation_degraded) {
    message->add_speculation_degraded(reason);
  }
  message->set_num_requests_running(cell.num_requests_running);
  message->set_num_requests_waiting(cell.num_requests_waiting);
  for (const AttachedWorker& worker : cell.workers) {
    pb::AttachedWorker* out = message->add_workers();
    out->set_name(WireText(worker.name, kMaxNameBytes));
    out->set_role(worker.role == WorkerRole::kDraft ? kDraftRole : kVerifierRole);
    out->set_state(worker.state);
    out->set_model_name(WireText(worker.model_name, kMaxNameBytes));
    out->set_numerics_id(worker.numerics_id);
    out->set_process_id(worker.process_id);
    out->set_kv_blocks_total(worker.blocks.total);
    out->set_kv_blocks_free(worker.blocks.free);
    out->set_kv_blocks_evictable(worker.blocks.evictable);
    out->set_num_sequences(worker.num_sequences);
  }
}

}  // namespace mirrorsd::wire
