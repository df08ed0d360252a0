#include "services/gateway/gateway_server.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/impl/codegen/service_type.h"
#include "services/gateway/inference_service.h"
#include "services/telemetry/log.h"

namespace mirrorsd::gateway {
namespace {

constexpr char kServiceName[] = "mirrorsd.v1.Inference";

GatewayReadiness ReadinessOf(const GatewayState& state, const CellView& view) {
  if (state.draining.load()) return {false, "draining"};
  if (!view.reachable) return {false, absl::StrCat("the scheduler does not answer: ", view.error)};
  if (!view.cell.ready) return {false, view.cell.not_ready_reason};
  if (view.cell.vocabulary_fingerprint != state.model.tokenizer->VocabularyFingerprint()) {
    return {false, "the verifier's model has another tokenizer"};
  }
  return {true, ""};
}

}  // namespace

class GatewayServer::State {
 public:
  explicit State(std::shared_ptr<GatewayState> shared) : shared(std::move(shared)) {}
  ~State() { Stop(); }

  absl::Status Listen(const GatewayServerOptions& options) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    service = MakeInferenceService(shared, options.version);
    grpc::ServerBuilder builder;
    rpc::ConfigureServer(&builder);
    builder.SetMaxReceiveMessageSize(options.max_message_bytes);
    std::vector<int> bound(options.listen_addresses.size(), 0);
    for (size_t i = 0; i < options.listen_addresses.size(); ++i) {
      builder.AddListeningPort(options.listen_addresses[i], grpc::InsecureServerCredentials(),
                               &bound[i]);
    }
    builder.RegisterService(service.get());
    server = builder.BuildAndStart();
    for (size_t i = 0; i < bound.size(); ++i) {
      const bool is_unix = options.listen_addresses[i].rfind("unix:", 0) == 0;
      if (server != nullptr && (bound[i] > 0 || is_unix)) continue;
      return InvalidField(absl::StrCat("listen_addresses[", i, "]"),
                          absl::StrCat("cannot listen on ", options.listen_addresses[i]));
    }
    if (server == nullptr) return absl::InternalError("the gRPC server did not start");
    for (size_t i = 0; i < bound.size(); ++i) {
      if (options.listen_addresses[i].rfind("unix:", 0) == 0) bound[i] = 0;
    }
    ports = std::move(bound);
    health = server->GetHealthCheckService();
    return absl::OkStatus();
  }

  // On the watch's thread.
  void Tell(const CellView& view) {
    const GatewayReadiness now = ReadinessOf(*shared, view);
    if (told && now.ready == was_ready) return;
    told = true;
    was_ready = now.ready;
    if (health != nullptr) {
      health->SetServingStatus(now.ready);
      health->SetServingStatus(kServiceName, now.ready);
    }
    telemetry::LogInfo("gateway", now.ready ? "ready" : "not ready", {{"reason", now.reason}});
  }

  void Stop() {
    if (stopped.exchange(true)) return;
    shared->draining = true;
    if (shared->watch != nullptr) shared->watch->Stop();
    if (server != nullptr) {
      server->Shutdown(std::chrono::system_clock::now());  // cancels what still runs
      server->Wait();
    }
    shared->scheduler.reset();  // waits for its last callback; no stream submits any more
  }

  std::shared_ptr<GatewayState> shared;
  std::unique_ptr<grpc::Service> service;
  std::unique_ptr<grpc::Server> server;
  std::vector<int> ports;
  grpc::HealthCheckServiceInterface* health = nullptr;
  std::atomic<bool> stopped{false};
  // The watch's thread only.
  bool told = false;
  bool was_ready = false;
};

GatewayServer::GatewayServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
GatewayServer::~GatewayServer() = default;

absl::StatusOr<std::unique_ptr<GatewayServer>> GatewayServer::Start(GatewayServerOptions options) {
  absl::StatusOr<ModelText> model = LoadModelText(options.model_files, options.served_model_name);
  if (!model.ok()) return model.status();
  auto shared = std::make_shared<GatewayState>(*std::move(model), options.limits, options.metrics);
  shared->scheduler = std::make_unique<rpc::SubmitClient>(options.scheduler());
  auto state = std::make_unique<State>(shared);
  State* const told = state.get();
  shared->watch = std::make_unique<CellWatch>(shared->scheduler.get(), options.watch_interval,
                                              [told](const CellView& view) { told->Tell(view); });
  if (absl::Status status = state->Listen(options); !status.ok()) return status;
  shared->watch->Start();
  return std::unique_ptr<GatewayServer>(new GatewayServer(std::move(state)));
}

const std::vector<int>& GatewayServer::ports() const { return state_->ports; }

std::shared_ptr<grpc::Channel> GatewayServer::InProcessChannel() {
  return state_->server->InProcessChannel({});
}

const ModelText& GatewayServer::model() const { return state_->shared->model; }

GatewayReadiness GatewayServer::readiness() const {
  return ReadinessOf(*state_->shared, *state_->shared->watch->view());
}

std::shared_ptr<const CellView> GatewayServer::cell() const { return state_->shared->watch->view(); }

void GatewayServer::Drain() {
  state_->shared->draining = true;
  if (state_->health != nullptr) {
    state_->health->SetServingStatus(false);
    state_->health->SetServingStatus(kServiceName, false);
  }
}

bool GatewayServer::WaitUntilIdle(absl::Duration timeout) {
  const auto end = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  while (state_->shared->num_requests.load() > 0) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

void GatewayServer::Stop() { state_->Stop(); }

}  // namespace mirrorsd::gateway
