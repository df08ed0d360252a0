#pragma once
// The draft's rollouts: structs <-> proto. Pure functions.

#include "common/worker_messages.h"
#include "mirrorsd/internal/v1/draft.pb.h"
#include "services/wire/field_check.h"

namespace mirrorsd::wire {

// Shapes:  path_tokens[committed_length - path_offset]; window[0..kMaxWindowTokens]; roots[1..kMaxRoots],
//          each with num_accepted <= the window's size
void Parse(const internal::v1::StartRollout& message, const Field& field, Checks* checks,
           StartRollout* start);
// Shapes:  token_ids[n], scores[n] or [0]; first_depth + n <= kMaxWindowTokens
void Parse(const internal::v1::RolloutProgress& message, const Field& field, Checks* checks,
           RolloutProgress* progress);
void Parse(const internal::v1::SequenceState& message, const Field& field, Checks* checks,
           SequenceState* state);

void Write(const StartRollout& start, internal::v1::StartRollout* message);
void Write(const RolloutProgress& progress, internal::v1::RolloutProgress* message);
void Write(const SequenceState& state, internal::v1::SequenceState* message);

}  // namespace mirrorsd::wire
