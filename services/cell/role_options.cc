#include "services/cell/role_options.h"

#include <unistd.h>

#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/speculation_policy.h"
#include "services/cell/exit_code.h"
#include "services/cell/models/load_format.h"
#include "services/runtime/clock.h"
#include "services/telemetry/log.h"

namespace mirrorsd::cell {
namespace {

constexpr int32_t kMaxWindow = 64;  // what a request may ask for

absl::Duration SecondsOr(const config::Options& options, std::string_view name,
                         absl::Duration otherwise) {
  return options.Takes(name) && options.Has(name) ? absl::Seconds(options.Number(name)) : otherwise;
}

int32_t IntegerOr(const config::Options& options, std::string_view name, int32_t otherwise) {
  return options.Takes(name) && options.Has(name) ? static_cast<int32_t>(options.Integer(name))
                                                  : otherwise;
}

bool FlagOr(const config::Options& options, std::string_view name, bool otherwise) {
  return options.Takes(name) && options.Has(name) ? options.Flag(name) : otherwise;
}

std::string TextOr(const config::Options& options, std::string_view name,
                   const std::string& otherwise) {
  return options.Takes(name) && options.Has(name) ? options.Text(name) : otherwise;
}

}  // namespace

scheduler::SchedulerServerOptions SchedulerOptions(const config::Options& options,
                                                   bool has_draft) {
  scheduler::SchedulerServerOptions server;
  scheduler::CoreConfig& core = server.core;
  core.speculation = FindSpeculationMode(TextOr(options, "speculation", ""))
                         .value_or(has_draft ? SpeculationMode::kSerial : SpeculationMode::kOff);
  core.num_speculative_tokens =
      IntegerOr(options, "num-speculative-tokens", core.num_speculative_tokens);
  core.branch_top_k = IntegerOr(options, "branch-top-k", core.branch_top_k);
  core.branch_budget = IntegerOr(options, "branch-budget", core.branch_budget);
  core.miss_fallback =
      FindMissFallback(TextOr(options, "miss-fallback", "")).value_or(core.miss_fallback);
  core.max_num_seqs = IntegerOr(options, "max-num-seqs", core.max_num_seqs);
  core.max_queued = IntegerOr(options, "max-num-queued", core.max_queued);
  core.max_prefill_rows_per_round =
      IntegerOr(options, "max-prefill-tokens", core.max_prefill_rows_per_round);
  core.queue_timeout = SecondsOr(options, "queue-timeout-s", core.queue_timeout);
  core.worker_timeout = SecondsOr(options, "worker-timeout-s", core.worker_timeout);
  core.verifier_loss_timeout =
      SecondsOr(options, "verifier-loss-timeout-s", core.verifier_loss_timeout);
  core.allow_other_numerics = FlagOr(options, "allow-other-numerics", false);
  server.journal.path = TextOr(options, "journal", "");
  server.journal.ring_folder = TextOr(options, "journal-ring-dir", "");
  if (options.Takes("journal-limit-mb")) {
    server.journal.limit_bytes = options.Integer("journal-limit-mb") << 20;
  }
  server.journal.version = Version();
  return server;
}

engine::EngineOptions EngineOptions(const config::Options& options, bool of_draft) {
  engine::EngineOptions engine;
  engine.model_dir = TextOr(options, of_draft ? "draft-model" : "model", "");
  if (const auto spec = TwinOf(options)) {
    engine.twin = {*spec, of_draft ? engine::TwinRole::kDraft : engine::TwinRole::kTarget};
    engine.model_dir = engine::TwinName(*engine.twin);
  }
  engine.backend = TextOr(options, "backend", engine.backend);
  engine.num_threads = IntegerOr(options, of_draft ? "draft-threads" : "threads", 0);
  engine.block_tokens = IntegerOr(options, "block-size", engine.block_tokens);
  const std::string kv = of_draft ? "draft-kv-cache-memory-bytes" : "kv-cache-memory-bytes";
  if (options.Takes(kv)) engine.kv_bytes = options.Integer(kv);
  engine.max_rows = IntegerOr(options, "max-num-batched-tokens", engine.max_rows);
  engine.max_context_length = IntegerOr(options, "max-model-len", 0);
  engine.on_load_progress = ShowLoadProgress(engine.model_dir);
  return engine;
}

verifier::VerifierWorkerOptions VerifierOptions(const config::Options& options) {
  verifier::VerifierWorkerOptions worker;
  worker.name = TextOr(options, "worker-name", "verifier");
  worker.engine = EngineOptions(options, /*of_draft=*/false);
  worker.device_profile = TextOr(options, "device-profile", "");
  worker.session.limits.max_sequences =
      IntegerOr(options, "max-num-seqs", worker.session.limits.max_sequences);
  worker.session.limits.max_window = kMaxWindow;
  worker.session.prefix_cache = !FlagOr(options, "no-prefix-caching", false);
  worker.session.early_exit_layer = IntegerOr(options, "early-exit-layer", 0);
  worker.prepare_session = [](const engine::EngineInfo& info, workers::VerifierSessionOptions* session) {
    return workers::ChooseEarlyExitLayer(session->early_exit_layer, info).status();
  };
  return worker;
}

draft::DraftWorkerOptions DraftOptions(const config::Options& options) {
  draft::DraftWorkerOptions worker;
  worker.name = TextOr(options, "worker-name", "draft");
  worker.engine = EngineOptions(options, /*of_draft=*/true);
  worker.device_profile = TextOr(options, "draft-device-profile", "");
  if (const std::string script = TextOr(options, "draft-script", ""); !script.empty()) {
    scripts::ScriptedDraftOptions scripted{
        .path = script,
        .agreement = TextOr(options, "draft-script-agreement", "1"),
        .seed = static_cast<uint64_t>(IntegerOr(options, "draft-script-seed", 0))};
    worker.prepare_session = [scripted](const engine::EngineInfo& info,
                                        workers::DraftSessionOptions* session) {
      auto loaded = scripts::ScriptedDraft::Load(scripted, info.vocabulary_size);
      if (loaded.ok()) session->script = *std::move(loaded);
      return loaded.status();
    };
  }
  worker.session.limits.max_sequences =
      IntegerOr(options, "max-num-seqs", worker.session.limits.max_sequences);
  worker.session.limits.max_window = kMaxWindow;
  return worker;
}

gateway::GatewayServerOptions GatewayOptions(const config::Options& options) {
  gateway::GatewayServerOptions server;
  const engine::EngineOptions target = EngineOptions(options, /*of_draft=*/false);
  server.model_files = worker::TextOf(target);
  server.served_model_name = TextOr(options, "served-model-name", "");
  if (target.twin.has_value() && server.served_model_name.empty()) {
    server.served_model_name = absl::StrCat("twin-", target.twin->spec.name);
  }
  server.limits.max_concurrent_requests =
      IntegerOr(options, "max-concurrent-requests", server.limits.max_concurrent_requests);
  if (options.Takes("max-stream-buffer-tokens")) {
    server.limits.max_stream_buffer_tokens =
        static_cast<size_t>(options.Integer("max-stream-buffer-tokens"));
  }
  server.version = Version();
  return server;
}

CellOptions CellOptionsFrom(const config::Options& options) {
  const bool has_draft = HasDraft(options);
  CellOptions cell;
  cell.scheduler = SchedulerOptions(options, has_draft);
  cell.verifier = VerifierOptions(options);
  if (has_draft) cell.draft = DraftOptions(options);
  cell.gateway = GatewayOptions(options);
  return cell;
}

std::string HostPort(const std::string& host, int64_t port) {
  if (host.find(':') != std::string::npos) return absl::StrCat("[", host, "]:", port);
  return absl::StrCat(host, ":", port);
}

void InitLoggingFrom(const config::Options& options, bool quiet) {
  telemetry::LogOptions log;
  log.level = quiet ? telemetry::LogLevel::kError : telemetry::LogLevel::kInfo;
  telemetry::ParseLogLevel(options.Text("log-level"), &log.level);
  const std::string format = options.Text("log-format");
  if (format == "json") log.format = telemetry::LogFormat::kJson;
  if (format == "plain") log.format = telemetry::LogFormat::kPlain;
  telemetry::InitLogging(log);
}

std::function<void(const engine::LoadProgress&)> ShowLoadProgress(const std::string& model_dir) {
  if (isatty(STDERR_FILENO) == 0) return nullptr;
  struct Shown {
    absl::Time started = runtime::MonotonicNow();
    absl::Time last;
    bool any = false;
  };
  return [model_dir, shown = std::make_shared<Shown>()](const engine::LoadProgress& progress) {
    const absl::Time now = runtime::MonotonicNow();
    const bool done = progress.bytes_done >= progress.bytes_total;
    const bool due = now - shown->started > absl::Milliseconds(500) &&
                     now - shown->last > absl::Milliseconds(100);
    if (done ? !shown->any : !due) return;
    shown->any = !done;
    shown->last = now;
    std::fprintf(stderr, done ? "\r\033[K" : "\rloading %s: %3.0f %% of %.1f MB",
                 model_dir.c_str(),
                 100.0 * static_cast<double>(progress.bytes_done) /
                     static_cast<double>(progress.bytes_total),
                 static_cast<double>(progress.bytes_total) / 1e6);
    std::fflush(stderr);
  };
}

}  // namespace mirrorsd::cell
