#include <string>

#include "services/cell/processes/separate_cell.h"
#include "services/cell/signals.h"
#include "services/cli/commands.h"
#include "services/cli/serve_report.h"

namespace mirrorsd::cli {
namespace {

constexpr char kProgram[] = "mirrorsd serve";
constexpr absl::Duration kLookInterval = absl::Milliseconds(20);

// Looks after the children until a signal, or the end of one for good.
absl::Status Watch(cell::SeparateCell* cell) {
  bool told_ready = false;
  while (!cell::WaitForSignal(kLookInterval).has_value()) {
    if (absl::Status status = cell->Look(); !status.ok()) return status;
    if (!told_ready && cell->IsReady()) {
      told_ready = true;
      Say("ready");
    }
  }
  return absl::OkStatus();
}

}  // namespace

ExitCode RunServeSeparately(const config::Options& options) {
  auto made = cell::SeparateCell::Make(options,
                                       {.host = options.Text("host"),
                                        .grpc_port = options.Integer("grpc-port"),
                                        .http_port = options.Integer("http-port")},
                                       Say);
  if (!made.ok()) return cell::ReportFailure(kProgram, made.status());
  cell::SeparateCell* const cell = made->get();
  ReportListening(options, cell->grpc_address(), cell->http_address());
  absl::Status status = cell->Start();
  if (status.ok()) status = Watch(cell);
  if (!status.ok()) {
    cell::ReportFailure(kProgram, status);
    cell->Drain(absl::ZeroDuration());
    const int code = cell->fatal_exit_code();
    return code != 0 ? static_cast<ExitCode>(code) : cell::kExitInternal;
  }
  Say("draining");
  const bool ended_well = cell->Drain(absl::Seconds(options.Number("drain-timeout-s")));
  Say(ended_well ? "stopped" : "stopped, but not every process ended by itself (see above)");
  return ended_well ? cell::kExitDone : cell::kExitInternal;
}

}  // namespace mirrorsd::cli
