#include "services/cell/processes/separate_cell.h"

#include <csignal>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/speculation_policy.h"
#include "services/cell/models/load_format.h"
#include "services/cell/processes/reserved_places.h"
#include "services/cell/role_options.h"
#include "services/cell/supervisor.h"
#include "services/http/http_server.h"

namespace mirrorsd::cell {
namespace {

constexpr absl::Duration kWorkerGrace = absl::Seconds(5);  // behind the gateway nothing runs any more
constexpr absl::Duration kHttpTimeout = absl::Milliseconds(500);
constexpr const char* kChildNames[] = {"scheduler", "verifier-worker", "draft-worker", "gateway"};

struct Wiring {
  std::string folder;  // of the programs
  std::string host;
  int64_t grpc_port = 0;
  int64_t http_port = 0;
  const PrivateFolder* sockets = nullptr;
};

// The child's command line: what was given to us and is its, then what the wiring says instead.
ChildSpec Child(const config::Options& options, const Wiring& wiring, const std::string& name,
                      config::Program program,
                      const std::vector<std::pair<std::string, std::string>>& wired) {
  ChildSpec child;
  child.name = name;
  child.arguments.push_back(wiring.folder + "/mirrorsd-" + name);
  for (const std::string& argument : options.ArgumentsFor(program)) {
    bool replaced = false;
    for (const auto& [option, value] : wired) {
      replaced = replaced || argument.rfind("--" + option + "=", 0) == 0;
    }
    if (!replaced) child.arguments.push_back(argument);
  }
  for (const auto& [option, value] : wired) {
    child.arguments.push_back(absl::StrCat("--", option, "=", value));
  }
  return child;
}

std::vector<ChildSpec> Children(const config::Options& options, const Wiring& wiring) {
  const bool has_draft = HasDraft(options);
  const std::string scheduler = wiring.sockets->Socket("scheduler");
  const auto http = [&](const std::string& name) { return wiring.sockets->Socket(name + "-http"); };
  const std::string mode = SpeculationModeName(SchedulerOptions(options, has_draft).core.speculation);
  std::vector<std::pair<std::string, std::string>> gateway = {
      {"host", wiring.host},
      {"grpc-port", absl::StrCat(wiring.grpc_port)},
      {"http-port", absl::StrCat(wiring.http_port)},
      {"scheduler-address", scheduler},
      {"metrics-from", http("scheduler")},
      {"metrics-from", http("verifier-worker")}};
  if (has_draft) gateway.emplace_back("metrics-from", http("draft-worker"));
  std::vector<ChildSpec> children;
  children.push_back(Child(options, wiring, "scheduler", config::kScheduler,
                           {{"listen-address", scheduler},
                            {"http-address", http("scheduler")},
                            {"speculation", mode}}));
  children.push_back(
      Child(options, wiring, "verifier-worker", config::kVerifierWorker,
            {{"scheduler-address", scheduler}, {"http-address", http("verifier-worker")}}));
  if (has_draft) {
    children.push_back(
        Child(options, wiring, "draft-worker", config::kDraftWorker,
              {{"scheduler-address", scheduler}, {"http-address", http("draft-worker")}}));
  }
  children.push_back(Child(options, wiring, "gateway", config::kGateway, gateway));
  return children;
}

}  // namespace

class SeparateCell::State {
 public:
  PrivateFolder sockets;
  ReservedPort grpc_port;
  ReservedPort http_port;
  std::string grpc_address;
  std::string http_address;
  std::unique_ptr<Supervisor> supervisor;
};

SeparateCell::SeparateCell(std::unique_ptr<State> state) : state_(std::move(state)) {}
SeparateCell::~SeparateCell() = default;

absl::StatusOr<std::unique_ptr<SeparateCell>> SeparateCell::Make(
    const config::Options& options, const ListenPlace& place,
    std::function<void(const std::string&)> tell) {
  auto state = std::make_unique<State>();
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error || !state->sockets.ok()) {
    return absl::InternalError("no folder for sockets, or /proc/self/exe cannot be read");
  }
  absl::Status status = state->grpc_port.Reserve("--grpc-port", place.host, place.grpc_port);
  if (status.ok()) status = state->http_port.Reserve("--http-port", place.host, place.http_port);
  if (!status.ok()) return status;
  state->grpc_address = HostPort(place.host, state->grpc_port.port());
  state->http_address = HostPort(place.host, state->http_port.port());
  const Wiring wiring{.folder = self.parent_path().string(), .host = place.host,
                      .grpc_port = state->grpc_port.port(), .http_port = state->http_port.port(),
                      .sockets = &state->sockets};
  state->supervisor = std::make_unique<Supervisor>(Children(options, wiring), SupervisorOptions{},
                                                   std::move(tell));
  return std::unique_ptr<SeparateCell>(new SeparateCell(std::move(state)));
}

const std::string& SeparateCell::grpc_address() const { return state_->grpc_address; }
const std::string& SeparateCell::http_address() const { return state_->http_address; }
absl::Status SeparateCell::Start() { return state_->supervisor->Start(); }
absl::Status SeparateCell::Look() { return state_->supervisor->Look(); }
int SeparateCell::fatal_exit_code() const { return state_->supervisor->fatal_exit_code(); }

bool SeparateCell::IsReady() const {
  const auto answer = http::HttpGet(state_->http_address, "/readyz", kHttpTimeout);
  return answer.ok() && answer->status == 200;
}

absl::StatusOr<std::string> SeparateCell::Metrics() const {
  auto answer = http::HttpGet(state_->http_address, "/metrics", kHttpTimeout);
  if (!answer.ok()) return answer.status();
  return std::move(answer->body);
}

std::vector<pid_t> SeparateCell::pids() const {
  std::vector<pid_t> pids;
  for (const char* name : kChildNames) {
    const pid_t pid = state_->supervisor->pid(name);
    if (pid != 0) pids.push_back(pid);
  }
  return pids;
}

bool SeparateCell::Drain(absl::Duration grace) {
  Supervisor* const supervisor = state_->supervisor.get();
  supervisor->Stop("gateway", SIGTERM);
  const bool gateway_ended_well = supervisor->WaitForStopped(grace + kWorkerGrace);
  for (const char* name : {"draft-worker", "verifier-worker", "scheduler"}) {
    supervisor->Stop(name, SIGTERM);
  }
  return supervisor->WaitForStopped(kWorkerGrace) && gateway_ended_well;
}

}  // namespace mirrorsd::cell
