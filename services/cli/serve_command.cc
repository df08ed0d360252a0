#include <atomic>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "services/cell/http_listener.h"
#include "services/cell/models/load_format.h"
#include "services/cell/ring_dump.h"
#include "services/cell/role_options.h"
#include "services/cell/signals.h"
#include "services/cli/commands.h"
#include "services/cli/serve_report.h"
#include "services/telemetry/gateway_metrics.h"
#include "services/telemetry/log.h"

namespace mirrorsd::cli {
namespace {

constexpr char kProgram[] = "mirrorsd serve";
constexpr absl::Duration kLookInterval = absl::Milliseconds(100);

// Until a signal, or a worker's end for good.
absl::Status WaitToBeStopped(cell::Cell* cell) {
  bool told_ready = false;
  while (!cell::WaitForSignal(kLookInterval).has_value()) {
    if (absl::Status failure = cell->WorkerFailure(); !failure.ok()) return failure;
    if (!told_ready && cell->gateway().readiness().ready) {
      told_ready = true;
      Say("ready");
    }
  }
  return absl::OkStatus();
}

}  // namespace

ExitCode RunServe(const config::Options& options) {
  if (!cell::HasModel(options)) {
    return cell::ReportFailure(kProgram, cell::UsageError("--model", "is needed, or --load-format"));
  }
  if (options.Flag("separate-processes")) return RunServeSeparately(options);

  telemetry::MetricRegistry registry;
  for (const char* role : {"gateway", "scheduler", "verifier-worker", "draft-worker"}) {
    if (role != std::string("draft-worker") || cell::HasDraft(options)) {
      telemetry::AddBuildInfo(&registry, role, cell::Version());
    }
  }
  std::unique_ptr<cell::Cell> cell;
  std::atomic<cell::Cell*> loaded{nullptr};  // the listener is there before the models are
  const std::string host = options.Text("host");
  auto http = cell::StartHttp(
      options, cell::HostPort(host, options.Integer("http-port")),
      {.readiness =
           [&loaded] {
             cell::Cell* const now = loaded.load();
             return now != nullptr ? cell::ReadinessOf(now->gateway())
                                   : http::Readiness{false, "loading models"};
           },
       .metrics = [&loaded, &registry, joined = cell::JoinedMetrics(&registry, {})] {
         if (const cell::Cell* const now = loaded.load()) now->ShowEmulation(&registry);
         return joined();
       }});
  if (!http.ok()) return cell::ReportFailure(kProgram, http.status());

  std::optional<cell::ExitOnSignal> loading(std::in_place);
  cell::CellOptions cell_options = cell::CellOptionsFrom(options);
  cell_options.gateway.listen_addresses = {cell::HostPort(host, options.Integer("grpc-port"))};
  auto started = cell::Cell::Start(std::move(cell_options), &registry);
  loading.reset();
  if (!started.ok()) return cell::ReportFailure(kProgram, started.status());
  cell = *std::move(started);
  loaded = cell.get();

  ReportListening(options, cell::HostPort(host, cell->gateway().ports()[0]),
                  cell::HostPort(host, (*http)->port()));
  Say(absl::StrCat("pid     ", getpid(), " (all roles in one process)"));
  const std::string journal = cell->scheduler().journal_path();
  if (!journal.empty()) Say(absl::StrCat("journal ", journal));
  std::optional<cell::RingDumpOnSignal> ring_dump(&cell->scheduler());
  const absl::Status failure = WaitToBeStopped(cell.get());
  telemetry::LogInfo("serve", "draining");
  cell->Drain(absl::Seconds(options.Number("drain-timeout-s")));
  (*http)->Stop();
  if (!failure.ok()) return cell::ReportFailure(kProgram, failure);
  Say("stopped");
  return cell::kExitDone;
}

}  // namespace mirrorsd::cli
