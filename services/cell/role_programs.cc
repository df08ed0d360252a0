#include "services/cell/role_programs.h"

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/cell/http_listener.h"
#include "services/cell/models/load_format.h"
#include "services/cell/ring_dump.h"
#include "services/cell/role_options.h"
#include "services/cell/scheduler_report_metrics.h"
#include "services/cell/signals.h"
#include "services/telemetry/gateway_metrics.h"
#include "services/telemetry/log.h"
#include "services/worker/emulation_report.h"

namespace mirrorsd::cell {
namespace {

constexpr absl::Duration kForever = absl::Hours(24 * 365);
constexpr absl::Duration kLookInterval = absl::Milliseconds(100);

absl::Duration DrainTimeout(const config::Options& options) {
  return absl::Seconds(options.Number("drain-timeout-s"));
}

// Until a signal says that it is time to go.
void WaitToBeStopped(const char* role) {
  while (true) {
    const std::optional<int> caught = WaitForSignal(kForever);
    if (!caught.has_value()) continue;
    telemetry::LogInfo(role, "draining", {{"signal", *caught}});
    return;
  }
}

const scripts::ScriptedDraft* ScriptOf(const draft::DraftWorker& worker) {
  return worker.session().script();
}
const scripts::ScriptedDraft* ScriptOf(const verifier::VerifierWorker&) { return nullptr; }

// A worker's own metrics, read from its progress whenever they are asked for.
template <typename Worker>
std::string WorkerMetrics(telemetry::MetricRegistry* registry, const std::string& role,
                          const Worker& worker) {
  const workers::SessionProgress& progress = worker.progress();
  const telemetry::Labels label = {{"role", role}};
  const KvBlocks blocks = progress.blocks();
  const double used = static_cast<double>(blocks.total - blocks.free - blocks.evictable);
  registry
      ->Gauges("kv_cache_usage_ratio", "Referenced KV blocks of the verifiers over all, 0 to 1.",
               label)
      .With({})
      .Set(blocks.total > 0 ? used / static_cast<double>(blocks.total) : 0);
  registry->Gauges("worker_sequences", "Live sequences of this worker.", label)
      .With({})
      .Set(static_cast<double>(progress.num_sequences()));
  registry->Counters("worker_steps_total", "Rounds (verifier) or depths (draft) computed.", label)
      .With({})
      .AdvanceTo(static_cast<double>(progress.num_rounds_done()));
  worker::ShowPacing(registry, role, worker.pacer());
  worker::ShowScript(registry, ScriptOf(worker));
  return registry->Serialize();
}

// Says when the worker is attached and when it is not, with the reason, each once.
class AttachmentLog {
 public:
  explicit AttachmentLog(std::string role) : role_(std::move(role)) {}

  template <typename Worker>
  void Look(const Worker& worker) {
    const bool attached = worker.is_attached();
    const std::string reason = attached ? "" : worker.detached_because();
    if (attached != attached_ && attached) {
      telemetry::LogInfo(role_, "attached to the scheduler");
    } else if (!attached && !reason.empty() && reason != reason_) {
      telemetry::LogWarning(role_, "not attached to the scheduler; dialling again", {{"reason", reason}});
    }
    attached_ = attached;
    reason_ = reason;
  }

 private:
  const std::string role_;
  bool attached_ = false;
  std::string reason_;
};

template <typename Worker, typename WorkerOptions>
ExitCode RunWorker(const config::Options& options, WorkerOptions worker_options,
                   const std::string& role, const std::string& model_option) {
  if (worker_options.engine.model_dir.empty()) {
    return ReportFailure("mirrorsd-" + role, UsageError(model_option, "is needed, or --load-format"));
  }
  telemetry::MetricRegistry registry;
  telemetry::AddBuildInfo(&registry, role, Version());
  worker_options.attach.channel = rpc::DialTo(options.Text("scheduler-address"));
  std::optional<ExitOnSignal> loading(std::in_place);
  auto worker = Worker::Create(std::move(worker_options));
  loading.reset();
  if (!worker.ok()) return ReportFailure("mirrorsd-" + role, worker.status());
  const engine::EngineInfo& info = (*worker)->engine_info();
  telemetry::LogInfo(role, "model loaded",
                     {{"model", info.model_name},
                      {"numerics_id", info.numerics_id},
                      {"context_length", info.context_length},
                      {"kv_blocks", info.num_kv_blocks}});
  worker::LogPacingBegin(role, (*worker)->pacer());
  worker::LogScriptBegin(role, ScriptOf(**worker));
  auto http = StartHttp(options, options.Text("http-address"),
                        {.readiness =
                             [&worker] {
                               const std::string reason = (*worker)->detached_because();
                               return http::Readiness{
                                   (*worker)->is_attached(),
                                   absl::StrCat("not attached to a scheduler",
                                                reason.empty() ? "" : ": ", reason)};
                             },
                         .metrics =
                             [&worker, &registry, &role] {
                               return WorkerMetrics(&registry, role, **worker);
                             }});
  if (!http.ok()) return ReportFailure("mirrorsd-" + role, http.status());
  (*worker)->Start();
  AttachmentLog attachment(role);
  while (true) {
    attachment.Look(**worker);
    const std::optional<absl::Status> over = (*worker)->WaitUntilOver(absl::ZeroDuration());
    if (over.has_value()) return ReportFailure("mirrorsd-" + role, *over);
    if (WaitForSignal(kLookInterval).has_value()) break;
  }
  telemetry::LogInfo(role, "draining");
  (*worker)->Drain();
  (*worker)->WaitUntilOver(DrainTimeout(options));
  if (*http != nullptr) (*http)->Stop();
  (*worker)->Stop();
  worker::LogPacingEnd(role, (*worker)->pacer());
  worker::LogScriptEnd(role, ScriptOf(**worker));
  return kExitDone;
}

}  // namespace

ExitCode RunGateway(const config::Options& options) {
  constexpr char kProgram[] = "mirrorsd-gateway";
  if (!HasModel(options)) {
    return ReportFailure(kProgram, UsageError("--model", "is needed, or --load-format"));
  }
  telemetry::MetricRegistry registry;
  telemetry::AddBuildInfo(&registry, "gateway", Version());
  gateway::GatewayServerOptions server = GatewayOptions(options);
  const std::string host = options.Text("host");
  server.listen_addresses = {HostPort(host, options.Integer("grpc-port"))};
  server.scheduler = rpc::DialTo(options.Text("scheduler-address"));
  server.metrics = &registry;
  auto gateway = gateway::GatewayServer::Start(std::move(server));
  if (!gateway.ok()) return ReportFailure(kProgram, gateway.status());
  auto http = StartHttp(
      options, HostPort(host, options.Integer("http-port")),
      {.readiness = [&gateway] { return ReadinessOf(**gateway); },
       .metrics = JoinedMetrics(&registry, options.TextList("metrics-from"))});
  if (!http.ok()) return ReportFailure(kProgram, http.status());
  telemetry::LogInfo("gateway", "listening",
                     {{"grpc", HostPort(host, (*gateway)->ports()[0])},
                      {"http", HostPort(host, (*http)->port())},
                      {"model", (*gateway)->model().name}});
  WaitToBeStopped("gateway");
  (*gateway)->Drain();
  (*gateway)->WaitUntilIdle(DrainTimeout(options));
  (*http)->Stop();
  (*gateway)->Stop();
  return kExitDone;
}

ExitCode RunScheduler(const config::Options& options) {
  constexpr char kProgram[] = "mirrorsd-scheduler";
  telemetry::MetricRegistry registry;
  telemetry::AddBuildInfo(&registry, "scheduler", Version());
  SchedulerReportMetrics report_metrics(&registry);
  scheduler::SchedulerServerOptions server = SchedulerOptions(options, /*has_draft=*/true);
  server.listen_addresses = {options.Text("listen-address")};
  server.observer = &report_metrics;
  auto scheduler = scheduler::SchedulerServer::Start(std::move(server));
  if (!scheduler.ok()) return ReportFailure(kProgram, scheduler.status());
  auto http = StartHttp(
      options, options.Text("http-address"),
      {.readiness =
           [&scheduler] {
             return http::Readiness{(*scheduler)->ready(), "no verifier, stalled, or draining"};
           },
       .metrics = JoinedMetrics(&registry, {})});
  if (!http.ok()) return ReportFailure(kProgram, http.status());
  telemetry::LogInfo("scheduler", "listening",
                     {{"address", options.Text("listen-address")},
                      {"journal", (*scheduler)->journal_path()}});
  std::optional<RingDumpOnSignal> ring_dump(scheduler->get());
  WaitToBeStopped("scheduler");
  (*scheduler)->Drain();
  (*scheduler)->WaitUntilDrained(DrainTimeout(options));
  if (*http != nullptr) (*http)->Stop();
  (*scheduler)->Stop();
  return kExitDone;
}

ExitCode RunVerifierWorker(const config::Options& options) {
  return RunWorker<verifier::VerifierWorker>(options, VerifierOptions(options), "verifier-worker",
                                             "--model");
}

ExitCode RunDraftWorker(const config::Options& options) {
  return RunWorker<draft::DraftWorker>(options, DraftOptions(options), "draft-worker",
                                       "--draft-model");
}

std::vector<std::string> Environment() {
  std::vector<std::string> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    variables.emplace_back(*entry);
  }
  return variables;
}

ExitCode RoleMain(const config::CommandSpec& command, int argc, char** argv,
                  ExitCode (*run)(const config::Options& options)) {
  const std::string program(command.command_line);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() == 1 && arguments[0] == "--version") {
    std::printf("%s %s\n", program.c_str(), Version());
    return kExitDone;
  }
  auto invocation = config::ResolveOptions(command, arguments, Environment());
  if (!invocation.ok()) return ReportUsage(program, invocation.status());
  if (invocation->help) {
    std::fputs(config::HelpText(command).c_str(), stdout);
    return kExitDone;
  }
  InitLoggingFrom(*invocation->options, /*quiet=*/false);
  if (const absl::Status checked = CheckLoadFormat(*invocation->options); !checked.ok()) {
    return ReportOptions(program, checked);
  }
  return run(*invocation->options);
}

}  // namespace mirrorsd::cell
