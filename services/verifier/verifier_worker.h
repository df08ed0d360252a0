#pragma once
// The verifier-worker as a library: loads the target, measures its step times, attaches to a scheduler and
// serves its rounds until stopped, drained or refused for good. Not a program: services/verifier's main.cc
// has the command line and the signals.
// Thread rule: the methods from any thread.

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/rpc/attach_client.h"
#include "services/rpc/worker_host.h"
#include "workers/engine/engine.h"
#include "workers/verifier/verifier_session.h"

namespace mirrorsd::verifier {

struct VerifierWorkerOptions {
  std::string name = "verifier";
  engine::EngineOptions engine;          // model_dir, backend, threads, KV
  workers::VerifierSessionOptions session;  // names, fingerprint and step times are filled in
  rpc::AttachClientOptions attach;       // `channel` says where the scheduler is
  bool measure_step_times = true;
};

class VerifierWorker {
 public:
  // Loads the model and tokenizer.json, which takes its time; Start() then dials.
  // Errors: those of engine::Engine::Create and text::Tokenizer::Load.
  static absl::StatusOr<std::unique_ptr<VerifierWorker>> Create(VerifierWorkerOptions options);
  // With a model made elsewhere and the fingerprint of its vocabulary.
  static std::unique_ptr<VerifierWorker> CreateWith(std::unique_ptr<engine::Engine> engine,
                                                    const std::string& vocabulary_fingerprint,
                                                    VerifierWorkerOptions options);
  ~VerifierWorker();  // stops

  void Start();
  // As in rpc::WorkerHost.
  void Drain();
  std::optional<absl::Status> WaitUntilOver(absl::Duration timeout);
  void Stop();
  bool is_attached() const;

  const engine::EngineInfo& engine_info() const;
  const workers::SessionProgress& progress() const;

 private:
  VerifierWorker() = default;

  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<workers::VerifierSession> session_;
  std::unique_ptr<rpc::WorkerHost> host_;
};

}  // namespace mirrorsd::verifier
