#pragma once
// The service mirrorsd.v1.Inference over a GatewayState. Not a server: gateway_server.h listens.
// Thread rule: registered with one server; gRPC's threads call it.

#include <memory>

#include "services/gateway/gateway_state.h"

namespace grpc {
class Service;
}

namespace mirrorsd::gateway {

std::unique_ptr<grpc::Service> MakeInferenceService(std::shared_ptr<GatewayState> state,
                                                    std::string version);

}  // namespace mirrorsd::gateway
