#include "services/cli/answerer.h"

#include <optional>
#include <utility>

#include "services/cell/exit_code.h"
#include "services/cell/models/load_format.h"
#include "services/cell/role_options.h"
#include "services/cell/signals.h"

namespace mirrorsd::cli {
namespace {

constexpr absl::Duration kReadyTimeout = absl::Seconds(60);

}  // namespace

absl::StatusOr<std::unique_ptr<Answerer>> Answerer::Make(const config::Options& options) {
  std::unique_ptr<Answerer> answerer(new Answerer);
  if (options.Has("server")) {
    answerer->client_ = InferenceClient::Dial(options.Text("server"));
    return answerer;
  }
  if (!cell::HasModel(options)) {
    return cell::UsageError("--model", "is needed, or --load-format or --server");
  }
  cell::ExitOnSignal loading;
  cell::CellOptions cell_options = cell::CellOptionsFrom(options);
  cell_options.gateway.watch_interval = absl::Milliseconds(5);  // one request: it waits for readiness
  auto cell = cell::Cell::Start(std::move(cell_options), &answerer->metrics_);
  if (!cell.ok()) return cell.status();
  if (absl::Status status = (*cell)->WaitUntilReady(kReadyTimeout); !status.ok()) return status;
  answerer->client_ = std::make_unique<InferenceClient>((*cell)->gateway().InProcessChannel());
  answerer->cell_ = *std::move(cell);
  return answerer;
}

}  // namespace mirrorsd::cli
