#include "services/draft/draft_worker.h"

#include <utility>

#include "services/runtime/clock.h"
#include "services/text/tokenizer.h"

namespace mirrorsd::draft {

absl::StatusOr<std::unique_ptr<DraftWorker>> DraftWorker::Create(
    DraftWorkerOptions options) {
  absl::StatusOr<std::shared_ptr<const text::Tokenizer>> tokenizer =
      text::Tokenizer::Load(options.engine.model_dir);
  if (!tokenizer.ok()) return tokenizer.status();
  absl::StatusOr<std::unique_ptr<engine::Engine>> engine = engine::Engine::Create(options.engine);
  if (!engine.ok()) return engine.status();
  const std::string fingerprint = (*tokenizer)->VocabularyFingerprint();
  return CreateWith(*std::move(engine), fingerprint, std::move(options));
}

std::unique_ptr<DraftWorker> DraftWorker::CreateWith(
    std::unique_ptr<engine::Engine> engine, const std::string& vocabulary_fingerprint,
    DraftWorkerOptions options) {
  std::unique_ptr<DraftWorker> worker(new DraftWorker);
  options.session.vocabulary_fingerprint = vocabulary_fingerprint;
  if (options.session.model_name.empty()) {
    options.session.model_name = engine->info().model_name;
  }
  worker->engine_ = std::move(engine);
  worker->session_ =
      std::make_unique<workers::DraftSession>(worker->engine_.get(), options.session);
  workers::DraftSession* const session = worker->session_.get();
  if (options.measure_step_times) session->set_step_times(session->MeasureStepTimes());
  worker->host_ = std::make_unique<rpc::WorkerHost>(
      rpc::HostedSession{
          .make_hello =
              [session, name = options.name] {
                return session->MakeHello(name, runtime::BootId());
              },
          .reset = [session] { session->Reset(); },
          .handle = [session](WorkerCommand command) { session->Handle(std::move(command)); },
          .has_work = [session] { return session->HasWork(); },
          .work = [session](const auto& emit) { session->Work(emit); },
          .num_sequences = [session] { return session->progress().num_sequences(); },
          .heartbeat =
              [session] { return session->progress().MakeHeartbeat(runtime::MonotonicNanos()); },
      },
      std::move(options.attach));
  return worker;
}

DraftWorker::~DraftWorker() { Stop(); }

void DraftWorker::Start() { host_->Start(); }
void DraftWorker::Drain() { host_->Drain(); }
std::optional<absl::Status> DraftWorker::WaitUntilOver(absl::Duration timeout) {
  return host_->WaitUntilOver(timeout);
}
void DraftWorker::Stop() { host_->Stop(); }
bool DraftWorker::is_attached() const { return host_->is_attached(); }

const engine::EngineInfo& DraftWorker::engine_info() const { return engine_->info(); }
const workers::SessionProgress& DraftWorker::progress() const { return session_->progress(); }

}  // namespace mirrorsd::draft
