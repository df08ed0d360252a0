#include "services/worker/model_worker.h"

#include "services/text/tokenizer.h"

namespace mirrorsd::worker {

absl::StatusOr<LoadedModel> LoadModel(const engine::EngineOptions& options) {
  absl::StatusOr<std::shared_ptr<const text::Tokenizer>> tokenizer =
      text::Tokenizer::Load(options.model_dir);
  if (!tokenizer.ok()) return tokenizer.status();
  absl::StatusOr<std::unique_ptr<engine::Engine>> engine = engine::Engine::Create(options);
  if (!engine.ok()) return engine.status();
  return LoadedModel{*std::move(engine), (*tokenizer)->VocabularyFingerprint()};
}

}  // namespace mirrorsd::worker
