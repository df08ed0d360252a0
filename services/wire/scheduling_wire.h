#pragma once
// The messages between gateway and scheduler: structs <-> proto. Pure functions.

#include "absl/status/statusor.h"
#include "common/request.h"
#include "mirrorsd/internal/v1/scheduling.pb.h"
#include "services/wire/cell_description.h"

namespace mirrorsd::wire {

// Errors:  InvalidField, e.g. "sampling.top_p"; of another schema_revision always that field
absl::StatusOr<SubmitRequest> Parse(const internal::v1::SubmitRequest& message);
// Shapes:  origins: one per token
absl::StatusOr<Committed> Parse(const internal::v1::Committed& message);
absl::StatusOr<CellDescription> Parse(const internal::v1::DescribeCellResponse& message);

void Write(const SubmitRequest& request, internal::v1::SubmitRequest* message);
void Write(const Committed& committed, internal::v1::Committed* message);
void Write(const CellDescription& cell, internal::v1::DescribeCellResponse* message);

}  // namespace mirrorsd::wire
