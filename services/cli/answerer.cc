#include "services/cli/answerer.h"

#include <optional>
#include <utility>

#include "services/cell/exit_code.h"
#include "services/cell/role_options.h"
#include "services/cell/signals.h"

namespace mirrorsd::cli {
namespace {

constexpr absl::Duration kReadyTimeout = absl::Seconds(60);

}  // namespace

cell::CellOptions CellOptionsFrom(const config::Options& options) {
  const bool has_draft = options.Has("draft-model");
  cell::CellOptions cell;
  cell.scheduler = cell::SchedulerOptions(options, has_draft);
  cell.verifier = cell::VerifierOptions(options);
  if (has_draft) cell.draft = cell::DraftOptions(options);
  cell.gateway = cell::GatewayOptions(options);
  return cell;
}

absl::StatusOr<std::unique_ptr<Answerer>> Answerer::Make(const config::Options& options) {
  std::unique_ptr<Answerer> answerer(new Answerer);
  if (options.Has("server")) {
    answerer->client_ = InferenceClient::Dial(options.Text("server"));
    return answerer;
  }
  if (!options.Has("model")) return cell::UsageError("--model", "is needed, or --server");
  cell::ExitOnSignal loading;
  cell::CellOptions cell_options = CellOptionsFrom(options);
  cell_options.gateway.watch_interval = absl::Milliseconds(5);  // one request: it waits for readiness
  auto cell = cell::Cell::Start(std::move(cell_options), &answerer->metrics_);
  if (!cell.ok()) return cell.status();
  if (absl::Status status = (*cell)->WaitUntilReady(kReadyTimeout); !status.ok()) return status;
  answerer->client_ = std::make_unique<InferenceClient>((*cell)->gateway().InProcessChannel());
  answerer->cell_ = *std::move(cell);
  return answerer;
}

}  // namespace mirrorsd::cli
