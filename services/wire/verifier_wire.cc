#include "services/wire/verifier_wire.h"

#include "services/wire/limits.h"
#include "services/wire/sequence_wire.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;

void ParseItem(const pb::VerifyItem& message, const Field& field, Checks* checks,
               VerifyItem* item) {
  checks->InRange(Field(field, "committed_length"), message.committed_length(), 1,
                  kMaxContextTokens);
  item->sequence_id = message.sequence_id();
  item->committed_length = message.committed_length();
  checks->InRange(Field(field, "branch_top_k"), message.branch_top_k(), 0, kMaxBranchTopK);
  item->branch_top_k = message.branch_top_k();
  switch (message.rows_case()) {
    case pb::VerifyItem::kPrefill: {
      const Field prefill(field, "prefill");
      checks->InRange(Field(prefill, "begin"), message.prefill().begin(), 0,
                      int64_t{message.committed_length()} - 1);
      checks->InRange(Field(prefill, "end"), message.prefill().end(),
                      int64_t{message.prefill().begin()} + 1, message.committed_length());
      item->is_prefill = true;
      item->begin = message.prefill().begin();
      item->end = message.prefill().end();
      return;
    }
    case pb::VerifyItem::kWindow: {
      const auto& ids = message.window().token_ids();
      const Field window(field, "window");
      checks->TokenIds(Field(window, "token_ids"), ids, 0, kMaxWindowTokens);
      if (checks->ok()) item->window.assign(ids.begin(), ids.end());
      return;
    }
    case pb::VerifyItem::ROWS_NOT_SET:
      checks->Require(false, Field(field, "rows"), "is missing", "prefill or window");
      return;
  }
}

void ParseRow(const pb::EarlyExitRow& message, const Field& field, bool is_last, Checks* checks,
              EarlyExitRow* row) {
  const Field drafted_score(field, "drafted_score");
  checks->Require(message.has_drafted_score() != is_last, drafted_score,
                  is_last ? "is set in the last row" : "is missing");
  if (message.has_drafted_score()) {
    checks->IsFinite(drafted_score, message.drafted_score());
    row->drafted_score = message.drafted_score();
  }
  checks->Count(Field(field, "candidates"), message.candidates_size(), 0, kMaxCandidates);
  if (!checks->ok()) return;
  row->candidates.reserve(message.candidates_size());
  for (int k = 0; k < message.candidates_size(); ++k) {
    const pb::Candidate& candidate = message.candidates(k);
    const Field candidate_field(field, "candidates", k);
    checks->NotNegative(Field(candidate_field, "token"), candidate.token());
    checks->IsFinite(Field(candidate_field, "score"), candidate.score());
    row->candidates.push_back({candidate.token(), candidate.score()});
  }
}

}  // namespace

void Parse(const pb::VerifierPhaseTimes& message, const Field& field, Checks* checks,
           VerifierPhaseTimes* times) {
  checks->NotNegative(Field(field, "queue_ns"), message.queue_ns());
  checks->NotNegative(Field(field, "prefix_ns"), message.prefix_ns());
  checks->NotNegative(Field(field, "exit_head_ns"), message.exit_head_ns());
  checks->NotNegative(Field(field, "suffix_ns"), message.suffix_ns());
  checks->NotNegative(Field(field, "sample_ns"), message.sample_ns());
  *times = {.queue_ns = message.queue_ns(),
            .prefix_ns = message.prefix_ns(),
            .exit_head_ns = message.exit_head_ns(),
            .suffix_ns = message.suffix_ns(),
            .sample_ns = message.sample_ns()};
}

void Parse(const pb::VerifyItemDone& message, const Field& field, Checks* checks,
           VerifyItemDone* item) {
  checks->InRange(Field(field, "kv_length"), message.kv_length(), 0, kMaxContextTokens);
  checks->InRange(Field(field, "num_accepted"), message.num_accepted(), 0, kMaxWindowTokens);
  item->sequence_id = message.sequence_id();
  item->kv_length = message.kv_length();
  item->num_accepted = message.num_accepted();
  if (message.has_correction_token()) {
    checks->NotNegative(Field(field, "correction_token"), message.correction_token());
    item->correction_token = message.correction_token();
  }
  if (message.has_error()) {
    checks->Require(!message.has_correction_token(), Field(field, "error"),
                    "is set beside a correction_token");
    Parse(message.error(), Field(field, "error"), checks, &item->error.emplace());
  }
  CheckLogprobs(message.logprobs(), Field(field, "logprobs"), kMaxWindowTokens + 1, checks);
}

void Parse(const pb::EarlyExitItem& message, const Field& field, Checks* checks,
           EarlyExitItem* item) {
  checks->Count(Field(field, "rows"), message.rows_size(), 1, kMaxWindowTokens + 1);
  if (!checks->ok()) return;
  item->sequence_id = message.sequence_id();
  item->rows.resize(message.rows_size());
  for (int r = 0; r < message.rows_size() && checks->ok(); ++r) {
    ParseRow(message.rows(r), Field(field, "rows", r), r + 1 == message.rows_size(), checks,
             &item->rows[r]);
  }
}

void Parse(const pb::SequenceStarted& message, const Field& field, Checks* checks,
           SequenceStarted* started) {
  checks->InRange(Field(field, "cached_length"), message.cached_length(), 0, kMaxContextTokens);
  *started = {message.sequence_id(), message.cached_length()};
}

void Parse(const pb::StartVerify& message, const Field& field, Checks* checks,
           StartVerify* start) {
  checks->Count(Field(field, "items"), message.items_size(), 1, kMaxRoundItems);
  if (!checks->ok()) return;
  start->round_id = message.round_id();
  start->items.resize(message.items_size());
  for (int i = 0; i < message.items_size() && checks->ok(); ++i) {
    ParseItem(message.items(i), Field(field, "items", i), checks, &start->items[i]);
  }
}

void Parse(const pb::EarlyExitReported& message, const Field& field, Checks* checks,
           EarlyExitReported* reported) {
  checks->NotNegative(Field(field, "sent_at_ns"), message.sent_at_ns());
  checks->Count(Field(field, "items"), message.items_size(), 1, kMaxRoundItems);
  Parse(message.times(), Field(field, "times"), checks, &reported->times);
  if (!checks->ok()) return;
  reported->round_id = message.round_id();
  reported->sent_at_ns = message.sent_at_ns();
  reported->items.resize(message.items_size());
  for (int i = 0; i < message.items_size() && checks->ok(); ++i) {
    Parse(message.items(i), Field(field, "items", i), checks, &reported->items[i]);
  }
}

void Parse(const pb::VerifyDone& message, const Field& field, Checks* checks, VerifyDone* done) {
  checks->NotNegative(Field(field, "sent_at_ns"), message.sent_at_ns());
  checks->Count(Field(field, "items"), message.items_size(), 1, kMaxRoundItems);
  Parse(message.times(), Field(field, "times"), checks, &done->times);
  Parse(message.blocks(), Field(field, "blocks"), checks, &done->blocks);
  if (!checks->ok()) return;
  done->round_id = message.round_id();
  done->sent_at_ns = message.sent_at_ns();
  done->items.resize(message.items_size());
  for (int i = 0; i < message.items_size() && checks->ok(); ++i) {
    Parse(message.items(i), Field(field, "items", i), checks, &done->items[i]);
  }
}

void Parse(const pb::SequenceEnded& message, const Field& field, Checks* checks,
           SequenceEnded* ended) {
  ended->sequence_id = message.sequence_id();
  Parse(message.blocks(), Field(field, "blocks"), checks, &ended->blocks);
}

void Write(const SequenceStarted& started, pb::SequenceStarted* message) {
  message->set_sequence_id(started.sequence_id);
  message->set_cached_length(started.cached_length);
}

void Write(const StartVerify& start, pb::StartVerify* message) {
  message->set_round_id(start.round_id);
  message->mutable_items()->Reserve(static_cast<int>(start.items.size()));
  for (const VerifyItem& item : start.items) {
    pb::VerifyItem* out = message->add_items();
    out->set_sequence_id(item.sequence_id);
    out->set_committed_length(item.committed_length);
    out->set_branch_top_k(item.branch_top_k);
    if (item.is_prefill) {
      out->mutable_prefill()->set_begin(item.begin);
      out->mutable_prefill()->set_end(item.end);
    } else {
      out->mutable_window()->mutable_token_ids()->Assign(item.window.begin(), item.window.end());
    }
  }
}

void Write(const VerifierPhaseTimes& times, pb::VerifierPhaseTimes* message) {
  message->set_queue_ns(times.queue_ns);
  message->set_prefix_ns(times.prefix_ns);
  message->set_exit_head_ns(times.exit_head_ns);
  message->set_suffix_ns(times.suffix_ns);
  message->set_sample_ns(times.sample_ns);
}

void Write(const EarlyExitItem& item, pb::EarlyExitItem* message) {
  message->set_sequence_id(item.sequence_id);
  for (const EarlyExitRow& row : item.rows) {
    pb::EarlyExitRow* out_row = message->add_rows();
    if (row.drafted_score.has_value()) out_row->set_drafted_score(*row.drafted_score);
    for (const Candidate& candidate : row.candidates) {
      pb::Candidate* out_candidate = out_row->add_candidates();
      out_candidate->set_token(candidate.token);
      out_candidate->set_score(candidate.score);
    }
  }
}

void Write(const VerifyItemDone& item, pb::VerifyItemDone* message) {
  message->set_sequence_id(item.sequence_id);
  message->set_kv_length(item.kv_length);
  message->set_num_accepted(item.num_accepted);
  if (item.correction_token.has_value()) message->set_correction_token(*item.correction_token);
  if (item.error.has_value()) Write(*item.error, message->mutable_error());
}

void Write(const EarlyExitReported& reported, pb::EarlyExitReported* message) {
  message->set_round_id(reported.round_id);
  message->set_sent_at_ns(reported.sent_at_ns);
  Write(reported.times, message->mutable_times());
  for (const EarlyExitItem& item : reported.items) Write(item, message->add_items());
}

void Write(const VerifyDone& done, pb::VerifyDone* message) {
  message->set_round_id(done.round_id);
  message->set_sent_at_ns(done.sent_at_ns);
  Write(done.times, message->mutable_times());
  Write(done.blocks, message->mutable_blocks());
  for (const VerifyItemDone& item : done.items) Write(item, message->add_items());
}

void Write(const SequenceEnded& ended, pb::SequenceEnded* message) {
  message->set_sequence_id(ended.sequence_id);
  Write(ended.blocks, message->mutable_blocks());
}

}  // namespace mirrorsd::wire
