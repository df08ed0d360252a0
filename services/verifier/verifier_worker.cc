#include "services/verifier/verifier_worker.h"

#include <utility>

#include "services/runtime/clock.h"
#include "services/text/tokenizer.h"

namespace mirrorsd::verifier {

absl::StatusOr<std::unique_ptr<VerifierWorker>> VerifierWorker::Create(
    VerifierWorkerOptions options) {
  absl::StatusOr<std::shared_ptr<const text::Tokenizer>> tokenizer =
      text::Tokenizer::Load(options.engine.model_dir);
  if (!tokenizer.ok()) return tokenizer.status();
  absl::StatusOr<std::unique_ptr<engine::Engine>> engine = engine::Engine::Create(options.engine);
  if (!engine.ok()) return engine.status();
  const std::string fingerprint = (*tokenizer)->VocabularyFingerprint();
  return CreateWith(*std::move(engine), fingerprint, std::move(options));
}

std::unique_ptr<VerifierWorker> VerifierWorker::CreateWith(
    std::unique_ptr<engine::Engine> engine, const std::string& vocabulary_fingerprint,
    VerifierWorkerOptions options) {
  std::unique_ptr<VerifierWorker> worker(new VerifierWorker);
  options.session.vocabulary_fingerprint = vocabulary_fingerprint;
  if (options.session.model_name.empty()) {
    options.session.model_name = engine->info().model_name;
  }
  worker->engine_ = std::move(engine);
  worker->session_ =
      std::make_unique<workers::VerifierSession>(worker->engine_.get(), options.session);
  workers::VerifierSession* const session = worker->session_.get();
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

VerifierWorker::~VerifierWorker() { Stop(); }

void VerifierWorker::Start() { host_->Start(); }
void VerifierWorker::Drain() { host_->Drain(); }
std::optional<absl::Status> VerifierWorker::WaitUntilOver(absl::Duration timeout) {
  return host_->WaitUntilOver(timeout);
}
void VerifierWorker::Stop() { host_->Stop(); }
bool VerifierWorker::is_attached() const { return host_->is_attached(); }

const engine::EngineInfo& VerifierWorker::engine_info() const { return engine_->info(); }
const workers::SessionProgress& VerifierWorker::progress() const { return session_->progress(); }

}  // namespace mirrorsd::verifier
