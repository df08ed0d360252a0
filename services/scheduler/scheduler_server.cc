#include "services/scheduler/scheduler_server.h"

#include <future>
#include <mutex>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "scheduler/policy/policies.h"
#include "services/rpc/channel.h"
#include "services/scheduler/scheduler_actor.h"

namespace mirrorsd::scheduler {
namespace {

constexpr char kSchedulingService[] = "mirrorsd.internal.v1.Scheduling";
constexpr char kFleetService[] = "mirrorsd.internal.v1.Fleet";
constexpr absl::Duration kShutdownGrace = absl::Seconds(2);

// Differs from every earlier life: by the second, and within one by chance.
uint64_t NewEpoch() {
  std::random_device random;
  return (static_cast<uint64_t>(absl::ToUnixSeconds(absl::Now())) << 32) | random();
}

// These are switches of the whole process, to be set before a server is built.
void EnableStandardServices() {
  static std::once_flag once;
  std::call_once(once, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  });
}

}  // namespace

class SchedulerServer::State {
 public:
  State(const SchedulerServerOptions& options, std::unique_ptr<journal::Recorder> recorder)
      : actor_(options, std::move(recorder), [this](bool ready) { TellHealth(ready); }) {}

  ~State() { Stop(); }

  absl::Status Start(const std::vector<std::string>& addresses) {
    EnableStandardServices();
    grpc::ServerBuilder builder;
    rpc::ConfigureServer(&builder);
    builder.RegisterService(actor_.attach().service());
    builder.RegisterService(actor_.submit().service());
    ports_.resize(addresses.size());
    for (size_t i = 0; i < addresses.size(); ++i) {
      builder.AddListeningPort(addresses[i], grpc::InsecureServerCredentials(), &ports_[i]);
    }
    server_ = builder.BuildAndStart();
    for (size_t i = 0; i < addresses.size(); ++i) {
      const bool bound = ports_[i] > 0;
      if (addresses[i].rfind("unix:", 0) == 0) ports_[i] = 0;  // gRPC says 1
      if (!bound) {
        return InvalidField(absl::StrCat("listen_addresses[", i, "]"),
                            absl::StrCat("cannot listen on ", addresses[i]));
      }
    }
    if (server_ == nullptr) return InvalidField("listen_addresses", "cannot start the server");
    TellHealth(false);
    actor_.Start();
    return absl::OkStatus();
  }

  void Stop() {
    if (stopped_.exchange(true)) return;
    if (server_ != nullptr) {
      const absl::Status status = Unavailable("SCHEDULER_STOPPED", "the scheduler has stopped");
      actor_.submit().FailAll(status);
      actor_.attach().CloseAll(status);
      server_->Shutdown(absl::ToChronoTime(absl::Now() + kShutdownGrace));
      server_->Wait();
    }
    actor_.Stop();
  }

  SchedulerActor& actor() { return actor_; }
  const std::vector<int>& ports() const { return ports_; }

  std::shared_ptr<grpc::Channel> InProcessChannel() {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(rpc::kMaxMessageBytes);
    arguments.SetMaxSendMessageSize(rpc::kMaxMessageBytes);
    return server_->InProcessChannel(arguments);
  }

 private:
  // Workers may attach whenever the process lives; requests are served when the cell is ready.
  void TellHealth(bool ready) {
    grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
    health->SetServingStatus("", ready);
    health->SetServingStatus(kSchedulingService, ready);
    health->SetServingStatus(kFleetService, true);
  }

  std::vector<int> ports_;
  std::atomic<bool> stopped_{false};
  SchedulerActor actor_;
  std::unique_ptr<grpc::Server> server_;  // destroyed before the actor, whose services it calls
};

SchedulerServer::SchedulerServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

SchedulerServer::~SchedulerServer() = default;

absl::StatusOr<std::unique_ptr<SchedulerServer>> SchedulerServer::Start(
    SchedulerServerOptions options) {
  options.core.scheduler_epoch = NewEpoch();
  if (options.core.policies.empty()) {
    options.core.policies.assign(Policies().begin(), Policies().end());
  }
  auto recorder = journal::Recorder::Create(options.core, options.journal);
  if (!recorder.ok()) return recorder.status();
  auto state = std::make_unique<State>(options, *std::move(recorder));
  if (absl::Status status = state->Start(options.listen_addresses); !status.ok()) return status;
  return std::unique_ptr<SchedulerServer>(new SchedulerServer(std::move(state)));
}

const std::vector<int>& SchedulerServer::ports() const { return state_->ports(); }

std::shared_ptr<grpc::Channel> SchedulerServer::InProcessChannel() {
  return state_->InProcessChannel();
}

absl::StatusOr<CellDescription> SchedulerServer::Describe(absl::Duration timeout) {
  auto promise = std::make_shared<std::promise<CellDescription>>();
  std::future<CellDescription> future = promise->get_future();
  const bool taken = state_->actor().OnDescribe([promise](const CellDescription* cell) {
    promise->set_value(cell == nullptr ? CellDescription{} : *cell);
  });
  if (!taken ||
      future.wait_for(absl::ToChronoMilliseconds(timeout)) != std::future_status::ready) {
    return Unavailable("SCHEDULER_STALLED", "the scheduler does not answer");
  }
  return future.get();
}

bool SchedulerServer::ready() const { return state_->actor().ready(); }

std::string SchedulerServer::journal_path() const { return state_->actor().recorder().path(); }

absl::StatusOr<std::string> SchedulerServer::DumpRing(const std::string& reason) {
  return state_->actor().recorder().DumpRing(reason);
}

void SchedulerServer::Drain() { state_->actor().Drain(); }

bool SchedulerServer::WaitUntilDrained(absl::Duration timeout) {
  return state_->actor().WaitUntilDrained(timeout);
}

void SchedulerServer::Stop() { state_->Stop(); }

}  // namespace mirrorsd::scheduler
