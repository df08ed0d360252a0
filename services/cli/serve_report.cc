#include "services/cli/serve_report.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "common/speculation_policy.h"
#include "services/cell/exit_code.h"
#include "services/cell/models/load_format.h"
#include "services/cell/role_options.h"

namespace mirrorsd::cli {

void Say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

std::string SpeculationLine(const scheduler::CoreConfig& core) {
  std::string line = absl::StrCat("speculation ", SpeculationModeName(core.speculation));
  if (core.speculation == SpeculationMode::kOff) return line;
  absl::StrAppend(&line, ", ", core.num_speculative_tokens, " tokens a round");
  if (core.speculation != SpeculationMode::kMirror) return line;
  absl::StrAppend(&line, ", ", core.branch_top_k, " candidates a row, at most ", core.branch_budget,
                  " branches, after a miss ", MissFallbackName(core.miss_fallback));
  return line;
}

void ReportListening(const config::Options& options, const std::string& grpc,
                     const std::string& http) {
  const bool has_draft = cell::HasDraft(options);
  const auto core = cell::SchedulerOptions(options, has_draft).core;
  Say(absl::StrCat("mirrorsd ", cell::Version()));
  Say(absl::StrCat("grpc    ", grpc));
  Say(absl::StrCat("http    ", http, " (/readyz /livez /metrics)"));
  const auto model_of = [&](bool of_draft) { return cell::EngineOptions(options, of_draft).model_dir; };
  const bool synthetic = cell::TwinOf(options).has_value();
  Say(absl::StrCat("model   ", model_of(false), synthetic ? " (synthetic)" : ""));
  if (has_draft) Say(absl::StrCat("draft   ", model_of(true), synthetic ? " (synthetic)" : ""));
  Say(SpeculationLine(core));
}

}  // namespace mirrorsd::cli
