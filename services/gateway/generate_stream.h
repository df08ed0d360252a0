#pragma once
// One Generate stream: plans the request, submits it, turns what is committed into text for the client, and
// ends once. A client that leaves aborts the request at once; one that reads too slowly loses its own
// stream (RESOURCE_EXHAUSTED, SLOW_CLIENT). Thread rule: gRPC's threads only.

#include <memory>

#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "services/gateway/gateway_state.h"

namespace mirrorsd::gateway {

// The reactor of a new stream; it frees itself when the stream is done.
grpc::ServerWriteReactor<grpc::ByteBuffer>* StartGenerate(std::shared_ptr<GatewayState> state,
                                                          grpc::CallbackServerContext* context,
                                                          const grpc::ByteBuffer& request);

}  // namespace mirrorsd::gateway
