#pragma once
// What the draft-worker and the verifier-worker have in common: a model, one session that serves it, and the
// host that attaches the session to a scheduler. Which of the two it is, the type of the session says; an
// object serves one model in one role. Not a program: services/cell has the command line and the signals.
// Thread rule: the methods from any thread.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "services/rpc/attach_client.h"
#include "services/rpc/worker_host.h"
#include "services/runtime/clock.h"
#include "services/text/model_file.h"
#include "workers/engine/engine.h"
#include "workers/pacing/device_pacer.h"

namespace mirrorsd::worker {

template <typename SessionOptions>
struct ModelWorkerOptions {
  std::string name;
  engine::EngineOptions engine;     // model_dir or twin, backend, threads, KV; its step_hook is filled in
  std::string device_profile;       // name or file of a device whose step times to emulate; empty: none
  SessionOptions session;           // names, fingerprint and step times are filled in
  rpc::AttachClientOptions attach;  // `channel` says where the scheduler is
  bool measure_step_times = true;
  // What the session needs that can be looked at only once the model is there; empty: nothing.
  std::function<absl::Status(const engine::EngineInfo&, SessionOptions*)> prepare_session;
};

struct LoadedModel {
  std::unique_ptr<engine::Engine> engine;
  std::string vocabulary_fingerprint;
  std::shared_ptr<pacing::DevicePacer> pacer;  // the engine's step hook; null: it is not paced
};

// The text files of the model that the options mean: its folder's, or those of a twin.
text::ModelFiles TextOf(const engine::EngineOptions& options);

// Loads the model, its tokenizer.json and the device profile, if there is one.
// Errors: those of engine::Engine::Create, text::Tokenizer::Load and pacing::LoadDeviceProfile.
absl::StatusOr<LoadedModel> LoadModel(engine::EngineOptions options,
                                      const std::string& device_profile = "");

template <typename Session, typename SessionOptions>
class ModelWorker {
 public:
  using Options = ModelWorkerOptions<SessionOptions>;

  // Loads, which takes its time; Start() then dials.
  // Errors: those of LoadModel and of options.prepare_session.
  static absl::StatusOr<std::unique_ptr<ModelWorker>> Create(Options options) {
    absl::StatusOr<LoadedModel> model = LoadModel(options.engine, options.device_profile);
    if (!model.ok()) return model.status();
    if (options.prepare_session != nullptr) {
      absl::Status prepared = options.prepare_session(model->engine->info(), &options.session);
      if (!prepared.ok()) return prepared;
    }
    return CreateWith(std::move(model->engine), model->vocabulary_fingerprint, std::move(options),
                      std::move(model->pacer));
  }

  // With a model made elsewhere, the fingerprint of its vocabulary and, where it is its step hook, a pacer.
  static std::unique_ptr<ModelWorker> CreateWith(
      std::unique_ptr<engine::Engine> engine, const std::string& vocabulary_fingerprint,
      Options options, std::shared_ptr<pacing::DevicePacer> pacer = nullptr) {
    return std::unique_ptr<ModelWorker>(new ModelWorker(
        std::move(engine), vocabulary_fingerprint, std::move(options), std::move(pacer)));
  }

  ~ModelWorker() { Stop(); }

  // As in rpc::WorkerHost.
  void Start() { host_->Start(); }
  void Drain() { host_->Drain(); }
  std::optional<absl::Status> WaitUntilOver(absl::Duration timeout) {
    return host_->WaitUntilOver(timeout);
  }
  void Stop() { host_->Stop(); }
  bool is_attached() const { return host_->is_attached(); }
  std::string detached_because() const { return host_->detached_because(); }

  const engine::EngineInfo& engine_info() const { return engine_->info(); }
  const Session& session() const { return *session_; }  // what of it any thread may read
  const auto& progress() const { return session_->progress(); }
  // What paces the engine; null where nothing does.
  const pacing::DevicePacer* pacer() const { return pacer_.get(); }

 private:
  ModelWorker(std::unique_ptr<engine::Engine> engine, const std::string& vocabulary_fingerprint,
              Options options, std::shared_ptr<pacing::DevicePacer> pacer)
      : pacer_(std::move(pacer)), engine_(std::move(engine)) {
    options.session.vocabulary_fingerprint = vocabulary_fingerprint;
    if (options.session.model_name.empty()) options.session.model_name = engine_->info().model_name;
    session_ = std::make_unique<Session>(engine_.get(), options.session);
    if (options.measure_step_times) session_->set_step_times(session_->MeasureStepTimes());
    if (pacer_ != nullptr) pacer_->ResetCounts();  // a process's first passes find everything cold
    host_ = std::make_unique<rpc::WorkerHost>(Host(session_.get(), options.name),
                                              std::move(options.attach));
  }

  static rpc::HostedSession Host(Session* session, const std::string& name) {
    return {
        .make_hello = [session, name] { return session->MakeHello(name, runtime::BootId()); },
        .reset = [session] { session->Reset(); },
        .handle = [session](WorkerCommand command) { session->Handle(std::move(command)); },
        .has_work = [session] { return session->HasWork(); },
        .work = [session](const auto& emit) { session->Work(emit); },
        .num_sequences = [session] { return session->progress().num_sequences(); },
        .heartbeat =
            [session] { return session->progress().MakeHeartbeat(runtime::MonotonicNanos()); },
    };
  }

  std::shared_ptr<pacing::DevicePacer> pacer_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<rpc::WorkerHost> host_;
};

}  // namespace mirrorsd::worker
