#include <cstdio>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/error.h"
#include "services/cell/role_options.h"
#include "services/cell/signals.h"
#include "services/cli/commands.h"
#include "workers/engine/model/twins/gguf_writer.h"
#include "workers/engine/model/twins/twin_files.h"
#include "workers/engine/model/twins/twin_option.h"
#include "workers/measure/twin_calibration.h"

namespace mirrorsd::cli {
namespace {

constexpr char kProgram[] = "mirrorsd make-twin";
constexpr int64_t kMaxCalibratedBytes = int64_t{4} << 30;

// The options in the one form that twins are asked for.
absl::StatusOr<engine::TwinRequest> RequestFrom(const config::Options& options) {
  if (!options.Has("shape")) return cell::UsageError("--shape", "is needed");
  std::string text = "twin:" + options.Text("shape");
  for (const char* key : {"draft-layers", "agreement", "exit-recall", "recall-top-k", "draft-damping",
                          "exit-damping", "logit-scale", "seed", "dtype"}) {
    if (options.Has(key)) absl::StrAppend(&text, ",", key, "=", options.Text(key));
  }
  if (options.Has("early-exit-layer")) {
    absl::StrAppend(&text, ",exit-layer=", options.Text("early-exit-layer"));
  }
  return engine::ParseTwinOption(text);
}

absl::StatusOr<engine::TwinRecord> MakeRecord(const config::Options& options,
                                              const engine::TwinRequest& request) {
  if (!request.wish.has_value()) return engine::TwinRecord{request.spec, {}, {}};
  const int64_t bytes = engine::TwinBytes({request.spec, engine::TwinRole::kTarget});
  if (bytes > kMaxCalibratedBytes) {
    return InvalidField("agreement",
                        absl::StrCat("would have to be measured on a model of ", bytes >> 20, " MiB"),
                        absl::StrCat("up to ", kMaxCalibratedBytes >> 20,
                                     " MiB; give --draft-damping and --exit-damping instead"));
  }
  measure::CalibrationOptions calibration;
  calibration.engine.backend = options.Text("backend");
  calibration.engine.num_threads = static_cast<int32_t>(options.Integer("threads"));
  calibration.num_prompts = static_cast<int32_t>(options.Integer("measured-prompts"));
  calibration.tolerance = options.Number("tolerance");
  calibration.on_progress = [](const std::string& line) {
    std::fprintf(stderr, "%s\n", line.c_str());
  };
  return measure::CalibrateTwin(request.spec, *request.wish, calibration);
}

absl::Status Write(const config::Options& options, const engine::TwinRecord& record) {
  for (const bool of_draft : {false, true}) {
    const std::string name = of_draft ? "draft-out" : "out";
    if (!options.Has(name)) continue;
    engine::TwinFilesOptions files;
    files.force = options.Flag("force");
    files.num_threads = static_cast<int32_t>(options.Integer("threads"));
    files.on_progress = cell::ShowLoadProgress(options.Text(name));
    const auto role = of_draft ? engine::TwinRole::kDraft : engine::TwinRole::kTarget;
    absl::Status written = engine::WriteTwinFolder(record, role, options.Text(name), files);
    if (!written.ok()) return written;
    std::printf("%-7s %s, %.1f MB\n", of_draft ? "draft" : "target", options.Text(name).c_str(),
                static_cast<double>(engine::TwinBytes({record.spec, role})) / 1e6);
  }
  if (options.Has("gguf")) {
    absl::Status written =
        engine::WriteTwinGguf({record.spec, engine::TwinRole::kTarget}, options.Text("gguf"),
                              options.Flag("force"), cell::ShowLoadProgress(options.Text("gguf")));
    if (!written.ok()) return written;
    std::printf("gguf    %s\n", options.Text("gguf").c_str());
  }
  if (!options.Has("twin-json")) return absl::OkStatus();
  std::ofstream out(options.Text("twin-json"), std::ios::binary | std::ios::trunc);
  out << engine::TwinJson(record);
  out.close();
  return out ? absl::OkStatus() : BadFile(options.Text("twin-json"), "cannot be written");
}

void Tell(const engine::TwinRecord& record) {
  std::printf("twin    %s, synthetic, seed %llu, draft of %d layers, exit after layer %d\n",
              record.spec.name.c_str(), static_cast<unsigned long long>(record.spec.seed),
              record.spec.draft_layers, record.spec.exit_layer);
  std::printf("factors draft-damping %.6g, exit-damping %.6g\n", record.spec.draft_damping,
              record.spec.exit_damping);
  if (!record.measured.has_value()) return;
  const engine::TwinMeasured& measured = *record.measured;
  std::printf("measured on %lld tokens of %lld other prompts: agreement %.3f, exit recall@%d %.3f, given a "
              "reject %.3f (%lld rejects); %lld distinct tokens, %.1f %% of runs of 8 distinct\n",
              static_cast<long long>(measured.num_tokens), static_cast<long long>(measured.num_prompts),
              measured.agreement, measured.recall_top_k, measured.exit_recall,
              measured.exit_recall_given_reject, static_cast<long long>(measured.num_rejects),
              static_cast<long long>(measured.num_distinct_tokens), 100 * measured.share_of_distinct_runs);
}

absl::Status MakeTwin(const config::Options& options) {
  const auto request = RequestFrom(options);
  if (!request.ok()) return request.status();
  // What is in the way is said before anything is measured.
  for (const auto& [name, role] : {std::pair{"out", engine::TwinRole::kTarget},
                                   std::pair{"draft-out", engine::TwinRole::kDraft}}) {
    if (!options.Has(name)) continue;
    if (role == engine::TwinRole::kDraft && request->spec.draft_layers == 0) {
      return cell::UsageError("--draft-out", "is given for a twin without a draft (draft-layers 0)");
    }
    absl::Status checked =
        engine::CheckTwinFolder({request->spec, role}, options.Text(name), options.Flag("force"));
    if (!checked.ok()) return checked;
  }
  const auto record = MakeRecord(options, *request);
  if (!record.ok()) return record.status();
  if (absl::Status written = Write(options, *record); !written.ok()) return written;
  Tell(*record);
  return absl::OkStatus();
}

}  // namespace

ExitCode RunMakeTwin(const config::Options& options) {
  const cell::ExitOnSignal making;
  const absl::Status status = MakeTwin(options);
  return status.ok() ? cell::kExitDone : cell::ReportOptions(kProgram, status);
}

}  // namespace mirrorsd::cli
