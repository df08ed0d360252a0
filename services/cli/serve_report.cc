#include "services/cli/serve_report.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "services/cell/exit_code.h"
#include "services/cell/models/load_format.h"
#include "services/cell/role_options.h"

namespace mirrorsd::cli {

void Say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

void ReportListening(const config::Options& options, const std::string& grpc,
                     const std::string& http) {
  const bool has_draft = cell::HasDraft(options);
  const auto core = cell::SchedulerOptions(options, has_draft).core;
  const bool serial = core.speculation == SpeculationMode::kSerial;
  Say(absl::StrCat("mirrorsd ", cell::Version()));
  Say(absl::StrCat("grpc    ", grpc));
  Say(absl::StrCat("http    ", http, " (/readyz /livez /metrics)"));
  const auto model_of = [&](bool of_draft) { return cell::EngineOptions(options, of_draft).model_dir; };
  const bool synthetic = cell::TwinOf(options).has_value();
  Say(absl::StrCat("model   ", model_of(false), synthetic ? " (synthetic)" : ""));
  if (has_draft) Say(absl::StrCat("draft   ", model_of(true), synthetic ? " (synthetic)" : ""));
  Say(serial ? absl::StrCat("speculation serial, ", core.num_speculative_tokens, " tokens a round")
             : "speculation off");
}

}  // namespace mirrorsd::cli
