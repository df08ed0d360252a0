#include "services/wire/draft_wire.h"

#include "services/wire/limits.h"
#include "services/wire/sequence_wire.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;

void ParseRoot(const pb::RolloutRoot& message, const Field& field, int window_size, Checks* checks,
               RolloutRoot* root) {
  checks->InRange(Field(field, "num_accepted"), message.num_accepted(), 0, window_size);
  root->num_accepted = message.num_accepted();
  switch (message.root_case()) {
    case pb::RolloutRoot::kToken:
      checks->NotNegative(Field(field, "token"), message.token());
      root->token = message.token();
      return;
    case pb::RolloutRoot::kOwnRank:
      checks->InRange(Field(field, "own_rank"), message.own_rank(), 0, kMaxOwnRank);
      root->own_rank = message.own_rank();
      return;
    case pb::RolloutRoot::ROOT_NOT_SET:
      checks->Require(false, Field(field, "root"), "is missing", "token or own_rank");
      return;
  }
}

}  // namespace

void Parse(const pb::StartRollout& message, const Field& field, Checks* checks,
           StartRollout* start) {
  checks->InRange(Field(field, "committed_length"), message.committed_length(), 1,
                  kMaxContextTokens);
  checks->InRange(Field(field, "path_offset"), message.path_offset(), 0,
                  message.committed_length());
  checks->TokenIds(Field(field, "path_tokens"), message.path_tokens(), 0, kMaxPathTokens);
  checks->Require(
      message.path_tokens_size() == int64_t{message.committed_length()} - message.path_offset(),
      Field(field, "path_tokens"), "does not cover [path_offset, committed_length)");
  checks->TokenIds(Field(field, "window"), message.window(), 0, kMaxWindowTokens);
  checks->InRange(Field(field, "depth"), message.depth(), 1, kMaxWindowTokens);
  checks->NotNegative(Field(field, "exit_sent_at_ns"), message.exit_sent_at_ns());
  checks->Count(Field(field, "roots"), message.roots_size(), 1, kMaxRoots);
  if (!checks->ok()) return;
  start->sequence_id = message.sequence_id();
  start->round_id = message.round_id();
  start->committed_length = message.committed_length();
  start->path_offset = message.path_offset();
  start->path_tokens.assign(message.path_tokens().begin(), message.path_tokens().end());
  start->window.assign(message.window().begin(), message.window().end());
  start->depth = message.depth();
  start->exit_sent_at_ns = message.exit_sent_at_ns();
  start->roots.resize(message.roots_size());
  for (int i = 0; i < message.roots_size() && checks->ok(); ++i) {
    ParseRoot(message.roots(i), Field(field, "roots", i), message.window_size(), checks,
              &start->roots[i]);
  }
}

void Parse(const pb::RolloutProgress& message, const Field& field, Checks* checks,
           RolloutProgress* progress) {
  checks->InRange(Field(field, "num_accepted"), message.num_accepted(), 0, kMaxWindowTokens);
  checks->NotNegative(Field(field, "root_token"), message.root_token());
  checks->InRange(Field(field, "first_depth"), message.first_depth(), 0, kMaxWindowTokens);
  checks->TokenIds(Field(field, "token_ids"), message.token_ids(), 0,
                   kMaxWindowTokens - int64_t{message.first_depth()});
  const Field scores(field, "scores");
  checks->Require(message.scores_size() == 0 || message.scores_size() == message.token_ids_size(),
                  scores, "has another size than token_ids", "one per token, or none");
  for (int i = 0; i < message.scores_size() && checks->ok(); ++i) {
    checks->IsFinite(Field(field, "scores", i), message.scores(i));
  }
  checks->NotNegative(Field(field, "started_at_ns"), message.started_at_ns());
  const Field times(field, "times");
  checks->NotNegative(Field(times, "queue_ns"), message.times().queue_ns());
  checks->NotNegative(Field(times, "rollout_ns"), message.times().rollout_ns());
  if (!checks->ok()) return;
  progress->sequence_id = message.sequence_id();
  progress->round_id = message.round_id();
  progress->num_accepted = message.num_accepted();
  progress->root_token = message.root_token();
  progress->first_depth = message.first_depth();
  progress->token_ids.assign(message.token_ids().begin(), message.token_ids().end());
  progress->scores.assign(message.scores().begin(), message.scores().end());
  progress->last = message.last();
  progress->started_at_ns = message.started_at_ns();
  progress->times = {message.times().queue_ns(), message.times().rollout_ns()};
}

void Parse(const pb::SequenceState& message, const Field& field, Checks* checks,
           SequenceState* state) {
  checks->InRange(Field(field, "state"), message.state(), pb::DRAFT_SEQUENCE_STATE_ABSENT,
                  pb::DRAFT_SEQUENCE_STATE_EVICTED);
  checks->InRange(Field(field, "draft_kv_length"), message.draft_kv_length(), 0,
                  kMaxContextTokens);
  Parse(message.blocks(), Field(field, "blocks"), checks, &state->blocks);
  if (!checks->ok()) return;
  state->sequence_id = message.sequence_id();
  state->state = static_cast<DraftSequenceState>(message.state());
  state->draft_kv_length = message.draft_kv_length();
}

void Write(const StartRollout& start, pb::StartRollout* message) {
  message->set_sequence_id(start.sequence_id);
  message->set_round_id(start.round_id);
  message->set_committed_length(start.committed_length);
  message->set_path_offset(start.path_offset);
  message->mutable_path_tokens()->Assign(start.path_tokens.begin(), start.path_tokens.end());
  message->mutable_window()->Assign(start.window.begin(), start.window.end());
  message->set_depth(start.depth);
  message->set_exit_sent_at_ns(start.exit_sent_at_ns);
  for (const RolloutRoot& root : start.roots) {
    pb::RolloutRoot* out = message->add_roots();
    out->set_num_accepted(root.num_accepted);
    if (root.token.has_value()) {
      out->set_token(*root.token);
    } else {
      out->set_own_rank(root.own_rank);
    }
  }
}

void Write(const RolloutProgress& progress, pb::RolloutProgress* message) {
  message->set_sequence_id(progress.sequence_id);
  message->set_round_id(progress.round_id);
  message->set_num_accepted(progress.num_accepted);
  message->set_root_token(progress.root_token);
  message->set_first_depth(progress.first_depth);
  message->mutable_token_ids()->Assign(progress.token_ids.begin(), progress.token_ids.end());
  message->mutable_scores()->Assign(progress.scores.begin(), progress.scores.end());
  message->set_last(progress.last);
  message->set_started_at_ns(progress.started_at_ns);
  message->mutable_times()->set_queue_ns(progress.times.queue_ns);
  message->mutable_times()->set_rollout_ns(progress.times.rollout_ns);
}

void Write(const SequenceState& state, pb::SequenceState* message) {
  message->set_sequence_id(state.sequence_id);
  message->set_state(static_cast<pb::DraftSequenceState>(state.state));
  message->set_draft_kv_length(state.draft_kv_length);
  Write(state.blocks, message->mutable_blocks());
}

}  // namespace mirrorsd::wire
