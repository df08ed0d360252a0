#pragma once
// What several messages share, sampling and KvBlocks, and the life of a sequence as both kinds of worker
// take it: structs <-> proto. Pure functions.

#include "common/sampling_parameters.h"
#include "common/worker_messages.h"
#include "mirrorsd/internal/v1/sampling.pb.h"
#include "mirrorsd/internal/v1/sequence.pb.h"
#include "services/wire/field_check.h"

namespace mirrorsd::wire {

// Units:   as in common/sampling_parameters.h, whose ranges are checked
void Parse(const internal::v1::SamplingParameters& message, const Field& field, Checks* checks,
           SamplingParameters* sampling);
void Write(const SamplingParameters& sampling, internal::v1::SamplingParameters* message);

// Log-probabilities have no plain struct yet: they are checked and not kept.
void CheckLogprobs(const google::protobuf::RepeatedPtrField<internal::v1::TokenLogprobs>& logprobs,
                   const Field& field, int max_tokens, Checks* checks);

void Parse(const internal::v1::StartSequence& message, const Field& field, Checks* checks,
           StartSequence* start);
void Parse(const internal::v1::AppendTokens& message, const Field& field, Checks* checks,
           AppendTokens* append);
void Parse(const internal::v1::EndSequence& message, const Field& field, Checks* checks,
           EndSequence* end);
// free + evictable <= total.
void Parse(const internal::v1::KvBlocks& message, const Field& field, Checks* checks,
           KvBlocks* blocks);
void Parse(const internal::v1::WorkerError& message, const Field& field, Checks* checks,
           WorkerError* error);

void Write(const StartSequence& start, internal::v1::StartSequence* message);
void Write(const AppendTokens& append, internal::v1::AppendTokens* message);
void Write(const EndSequence& end, internal::v1::EndSequence* message);
void Write(const KvBlocks& blocks, internal::v1::KvBlocks* message);
void Write(const WorkerError& error, internal::v1::WorkerError* message);

}  // namespace mirrorsd::wire
