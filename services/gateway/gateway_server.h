#pragma once
// The gateway as a library: the public gRPC API with health and reflection, over a scheduler somewhere. It
// loads a model folder's text files and no weights. Not a program: services/cli has the command lines and
// the signals, and the HTTP listener asks readiness().
// Thread rule: the methods from any thread.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/gateway/gateway_state.h"
#include "services/rpc/channel.h"
#include "services/telemetry/metrics.h"
#include "services/text/model_file.h"

namespace mirrorsd::gateway {

struct GatewayServerOptions {
  std::vector<std::string> listen_addresses;  // none: reached by InProcessChannel() only
  text::ModelFiles model_files;   // a folder, or the texts of a model without one
  std::string served_model_name;  // empty: the folder's last component
  rpc::ChannelFactory scheduler;
  GatewayLimits limits;
  int max_message_bytes = 4 << 20;  // of a request
  absl::Duration watch_interval = absl::Milliseconds(100);
  std::string version;
  telemetry::MetricRegistry* metrics = nullptr;  // outlives the server
};

struct GatewayReadiness {
  bool ready = false;
  std::string reason;
};

class GatewayServer {
 public:
  // Errors: those of LoadModelText; INVALID_FIELD("listen_addresses[i]") where an address cannot be had
  static absl::StatusOr<std::unique_ptr<GatewayServer>> Start(GatewayServerOptions options);
  ~GatewayServer();  // stops
  GatewayServer(const GatewayServer&) = delete;
  GatewayServer& operator=(const GatewayServer&) = delete;

  const std::vector<int>& ports() const;
  std::shared_ptr<grpc::Channel> InProcessChannel();
  const ModelText& model() const;

  // As the scheduler says it; false while draining, or when the scheduler cannot be asked.
  GatewayReadiness readiness() const;
  // The latest answer of the scheduler.
  std::shared_ptr<const CellView> cell() const;

  // Not ready, no new requests; live ones go on.
  void Drain();
  // Whether no request lives any more, waiting up to `timeout` for it.
  bool WaitUntilIdle(absl::Duration timeout);
  // Ends everything. Idempotent.
  void Stop();

 private:
  class State;
  explicit GatewayServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace mirrorsd::gateway
