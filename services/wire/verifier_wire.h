#pragma once
// The verifier's rounds: structs <-> proto. Pure functions.

#include "common/worker_messages.h"
#include "mirrorsd/internal/v1/verifier.pb.h"
#include "services/wire/field_check.h"

namespace mirrorsd::wire {

void Parse(const internal::v1::SequenceStarted& message, const Field& field, Checks* checks,
           SequenceStarted* started);
// Shapes:  items[1..kMaxRoundItems]; window[0..kMaxWindowTokens]
void Parse(const internal::v1::StartVerify& message, const Field& field, Checks* checks,
           StartVerify* start);
// Shapes:  rows[1..kMaxWindowTokens + 1] an item; all but the last have a drafted_score
void Parse(const internal::v1::EarlyExitReported& message, const Field& field, Checks* checks,
           EarlyExitReported* reported);
void Parse(const internal::v1::VerifyDone& message, const Field& field, Checks* checks,
           VerifyDone* done);
void Parse(const internal::v1::SequenceEnded& message, const Field& field, Checks* checks,
           SequenceEnded* ended);
// The parts of these, as the journal keeps them.
void Parse(const internal::v1::EarlyExitItem& message, const Field& field, Checks* checks,
           EarlyExitItem* item);
void Parse(const internal::v1::VerifyItemDone& message, const Field& field, Checks* checks,
           VerifyItemDone* item);
void Parse(const internal::v1::VerifierPhaseTimes& message, const Field& field, Checks* checks,
           VerifierPhaseTimes* times);

void Write(const SequenceStarted& started, internal::v1::SequenceStarted* message);
void Write(const StartVerify& start, internal::v1::StartVerify* message);
void Write(const EarlyExitReported& reported, internal::v1::EarlyExitReported* message);
void Write(const VerifyDone& done, internal::v1::VerifyDone* message);
void Write(const SequenceEnded& ended, internal::v1::SequenceEnded* message);
void Write(const EarlyExitItem& item, internal::v1::EarlyExitItem* message);
void Write(const VerifyItemDone& item, internal::v1::VerifyItemDone* message);
void Write(const VerifierPhaseTimes& times, internal::v1::VerifierPhaseTimes* message);

}  // namespace mirrorsd::wire
