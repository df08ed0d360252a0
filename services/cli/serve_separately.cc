#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "services/cell/role_options.h"
#include "services/cell/signals.h"
#include "services/cell/supervisor.h"
#include "services/cli/commands.h"
#include "services/cli/serve_report.h"
#include "services/http/http_server.h"

namespace mirrorsd::cli {
namespace {

constexpr char kProgram[] = "mirrorsd serve";
constexpr absl::Duration kLookInterval = absl::Milliseconds(20);
constexpr absl::Duration kWorkerGrace = absl::Seconds(5);  // behind the gateway nothing runs any more

// A folder of our own for the sockets between the children; it goes with this object.
class PrivateFolder {
 public:
  PrivateFolder() {
    // A socket's path has 107 bytes at most: a long TMPDIR will not do.
    const char* base = std::getenv("TMPDIR");
    std::string name = base != nullptr && std::string(base).size() < 60 ? base : "/tmp";
    name += "/mirrorsd-XXXXXX";
    if (mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~PrivateFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  bool ok() const { return !path_.empty(); }
  std::string Socket(const std::string& name) const { return "unix:" + path_ + "/" + name; }

 private:
  std::string path_;
};

// A port that is ours as long as this lives, 0 having become a free one: a restarted child must find the same
// again, and nobody else may be given it meanwhile. The socket is bound but does not listen, so that a
// child, which allows reuse as we do, can.
class ReservedPort {
 public:
  ReservedPort() = default;
  ~ReservedPort() {
    if (fd_ >= 0) close(fd_);
  }
  ReservedPort(const ReservedPort&) = delete;
  ReservedPort& operator=(const ReservedPort&) = delete;

  absl::Status Reserve(const std::string& option, const std::string& host, int64_t port) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    addrinfo* found = nullptr;
    if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
      return cell::UsageError("--host", absl::StrCat("'", host, "' is no known host"));
    }
    sockaddr_storage bound{};
    socklen_t size = sizeof(bound);
    const int reuse = 1;
    fd_ = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool good = fd_ >= 0 &&
                      setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse)) == 0 &&
                      bind(fd_, found->ai_addr, found->ai_addrlen) == 0 &&
                      getsockname(fd_, reinterpret_cast<sockaddr*>(&bound), &size) == 0;
    freeaddrinfo(found);
    if (!good) {
      return InvalidField(option, absl::StrCat("cannot listen on ", cell::HostPort(host, port), ": ",
                                               std::strerror(errno)));
    }
    port_ = ntohs(bound.ss_family == AF_INET6
                      ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                      : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
    return absl::OkStatus();
  }

  int64_t port() const { return port_; }

 private:
  int fd_ = -1;
  int64_t port_ = 0;
};

struct Wiring {
  std::string folder;  // of the programs
  std::string host;
  int64_t grpc_port = 0;
  int64_t http_port = 0;
  const PrivateFolder* sockets = nullptr;
};

// The child's command line: what was given to us and is its, then what the wiring says instead.
cell::ChildSpec Child(const config::Options& options, const Wiring& wiring, const std::string& name,
                      config::Program program,
                      const std::vector<std::pair<std::string, std::string>>& wired) {
  cell::ChildSpec child;
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

std::vector<cell::ChildSpec> Children(const config::Options& options, const Wiring& wiring) {
  const bool has_draft = options.Has("draft-model");
  const std::string scheduler = wiring.sockets->Socket("scheduler");
  const auto http = [&](const std::string& name) { return wiring.sockets->Socket(name + "-http"); };
  const auto core = cell::SchedulerOptions(options, has_draft).core;
  const std::string mode = core.speculation == SpeculationMode::kSerial ? "serial" : "off";
  std::vector<std::pair<std::string, std::string>> gateway = {
      {"host", wiring.host},
      {"grpc-port", absl::StrCat(wiring.grpc_port)},
      {"http-port", absl::StrCat(wiring.http_port)},
      {"scheduler-address", scheduler},
      {"metrics-from", http("scheduler")},
      {"metrics-from", http("verifier-worker")}};
  if (has_draft) gateway.emplace_back("metrics-from", http("draft-worker"));
  std::vector<cell::ChildSpec> children;
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

bool IsReady(const Wiring& wiring) {
  const auto answer = http::HttpGet(cell::HostPort(wiring.host, wiring.http_port), "/readyz",
                                    absl::Milliseconds(500));
  return answer.ok() && answer->status == 200;
}

// Looks after the children until a signal, or the end of one for good.
absl::Status Watch(const Wiring& wiring, cell::Supervisor* supervisor) {
  bool told_ready = false;
  while (!cell::WaitForSignal(kLookInterval).has_value()) {
    if (absl::Status status = supervisor->Look(); !status.ok()) return status;
    if (!told_ready && IsReady(wiring)) {
      told_ready = true;
      Say("ready");
    }
  }
  return absl::OkStatus();
}

// From the outside in: the gateway lets its requests finish, then nobody needs the rest. Returns whether every
// child ended by itself and well.
bool Drain(absl::Duration grace, cell::Supervisor* supervisor) {
  supervisor->Stop("gateway", SIGTERM);
  const bool gateway_ended_well = supervisor->WaitForStopped(grace + kWorkerGrace);
  for (const char* name : {"draft-worker", "verifier-worker", "scheduler"}) {
    supervisor->Stop(name, SIGTERM);
  }
  return supervisor->WaitForStopped(kWorkerGrace) && gateway_ended_well;
}

}  // namespace

ExitCode RunServeSeparately(const config::Options& options) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const PrivateFolder sockets;
  if (error || !sockets.ok()) {
    return cell::ReportFailure(
        kProgram, absl::InternalError("no folder for sockets, or /proc/self/exe cannot be read"));
  }
  Wiring wiring{.folder = self.parent_path().string(), .host = options.Text("host"),
                .sockets = &sockets};
  ReservedPort grpc_port;
  ReservedPort http_port;
  absl::Status status = grpc_port.Reserve("--grpc-port", wiring.host, options.Integer("grpc-port"));
  if (status.ok()) {
    status = http_port.Reserve("--http-port", wiring.host, options.Integer("http-port"));
  }
  if (!status.ok()) return cell::ReportFailure(kProgram, status);
  wiring.grpc_port = grpc_port.port();
  wiring.http_port = http_port.port();

  ReportListening(options, cell::HostPort(wiring.host, wiring.grpc_port),
                  cell::HostPort(wiring.host, wiring.http_port));
  cell::Supervisor supervisor(Children(options, wiring), {}, Say);
  status = supervisor.Start();
  if (status.ok()) status = Watch(wiring, &supervisor);
  if (!status.ok()) {
    cell::ReportFailure(kProgram, status);
    Drain(absl::ZeroDuration(), &supervisor);
    const int code = supervisor.fatal_exit_code();
    return code != 0 ? static_cast<ExitCode>(code) : cell::kExitInternal;
  }
  Say("draining");
  const bool ended_well = Drain(absl::Seconds(options.Number("drain-timeout-s")), &supervisor);
  Say(ended_well ? "stopped" : "stopped, but not every process ended by itself (see above)");
  return ended_well ? cell::kExitDone : cell::kExitInternal;
}

}  // namespace mirrorsd::cli
