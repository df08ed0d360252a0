#pragma once
// How this program's processes reach each other by gRPC: one set of message limits and keepalive for all
// internal edges. Addresses are HOST:PORT or unix:/path. Callable from any thread.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace grpc {
class Channel;
class ServerBuilder;
}  // namespace grpc

namespace mirrorsd::rpc {

// Both directions of every internal stream. The largest legal message is far below.
inline constexpr int kMaxMessageBytes = 16 << 20;

// Makes a channel anew for each dial: to an address, or into a server of this process.
using ChannelFactory = std::function<std::shared_ptr<grpc::Channel>()>;

// A channel of its own (no subchannel is shared with others), without TLS.
std::shared_ptr<grpc::Channel> DialChannel(const std::string& address);

// DialChannel(address) on each call.
ChannelFactory DialTo(std::string address);

// Keeps gRPC's callback threads for the life of the process. gRPC ends them with the last channel or server
// that uses callbacks, and joins them there: a channel whose last owner lets go inside a callback would make
// such a thread wait for itself. Every client that uses callbacks calls this first. Idempotent.
void KeepCallbackThreads();

// Message limits, keepalive, no port sharing.
void ConfigureServer(grpc::ServerBuilder* builder);

}  // namespace mirrorsd::rpc
