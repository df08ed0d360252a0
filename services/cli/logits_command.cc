#include <string>
#include <vector>

#include "services/cell/models/load_format.h"
#include "services/cell/role_options.h"
#include "services/cell/signals.h"
#include "services/cli/commands.h"
#include "services/cli/request_options.h"
#include "workers/engine/logits.h"

namespace mirrorsd::cli {
namespace {

constexpr char kProgram[] = "mirrorsd logits";

absl::Status WriteLogits(const config::Options& options) {
  if (!cell::HasModel(options)) return cell::UsageError("--model", "is needed, or --load-format");
  for (const char* needed : {"prompt-ids", "early-exit-layer", "out"}) {
    if (!options.Has(needed)) return cell::UsageError(std::string("--") + needed, "is needed");
  }
  auto ids = ParseTokenIds(options.Text("prompt-ids"), options.Place("prompt-ids"));
  if (!ids.ok()) return ids.status();
  return engine::WritePromptLogits(cell::EngineOptions(options, /*of_draft=*/false), *ids,
                                   static_cast<int32_t>(options.Integer("early-exit-layer")),
                                   options.Text("out"));
}

}  // namespace

ExitCode RunLogits(const config::Options& options) {
  const cell::ExitOnSignal computing;
  const absl::Status status = WriteLogits(options);
  return status.ok() ? cell::kExitDone : cell::ReportFailure(kProgram, status);
}

}  // namespace mirrorsd::cli
