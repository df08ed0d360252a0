#pragma once
// absl::Status with its ErrorInfo <-> grpc::Status with standard details: a google.rpc.Status that holds a
// google.rpc.ErrorInfo of the domain "mirrorsd", whose metadata are `field`, `limit` and `retryable`.
// Pure functions.

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace mirrorsd::wire {

// Texts are cut to what fits into trailing metadata. A status without ErrorInfo gets no details.
grpc::Status ToGrpcStatus(const absl::Status& status);

// What came from a peer: unknown codes become UNKNOWN, details that are not ours are left out.
absl::Status FromGrpcStatus(const grpc::Status& status);

}  // namespace mirrorsd::wire
