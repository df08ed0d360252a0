#include "services/worker/model_worker.h"

#include "services/text/tokenizer.h"
#include "workers/engine/model/twins/twin_text.h"
#include "workers/pacing/profile_file.h"

namespace mirrorsd::worker {

text::ModelFiles TextOf(const engine::EngineOptions& options) {
  if (!options.twin.has_value()) return options.model_dir;
  return {engine::TwinName(*options.twin), engine::TwinTextFiles(options.twin->spec)};
}

absl::StatusOr<LoadedModel> LoadModel(engine::EngineOptions options,
                                      const std::string& device_profile) {
  std::shared_ptr<pacing::DevicePacer> pacer;
  if (!device_profile.empty()) {
    absl::StatusOr<pacing::DeviceProfile> profile = pacing::LoadDeviceProfile(device_profile);
    if (!profile.ok()) return profile.status();
    pacer = std::make_shared<pacing::DevicePacer>(*std::move(profile));
    options.step_hook = pacer;
  }
  absl::StatusOr<std::shared_ptr<const text::Tokenizer>> tokenizer =
      text::Tokenizer::Load(TextOf(options));
  if (!tokenizer.ok()) return tokenizer.status();
  absl::StatusOr<std::unique_ptr<engine::Engine>> engine = engine::Engine::Create(options);
  if (!engine.ok()) return engine.status();
  return LoadedModel{*std::move(engine), (*tokenizer)->VocabularyFingerprint(), std::move(pacer)};
}

}  // namespace mirrorsd::worker
