#include "workers/session/session_face.h"

#include <utility>

#include "workers/session/worker_hello.h"

namespace mirrorsd::workers {

SessionFace::SessionFace(engine::Engine* engine, engine::Clock* clock, SessionIdentity identity,
                         SessionProgress* progress)
    : engine_(engine),
      clock_(clock != nullptr ? clock : &engine::MonotonicClock()),
      identity_(std::move(identity)),
      progress_(progress) {
  identity_.limits = CapToEngine(identity_.limits, engine->info());
}

KvBlocks SessionFace::blocks() const { return CountBlocks(engine_->blocks()); }

Hello SessionFace::MakeHello(const std::string& name, const std::string& boot_id) const {
  Hello hello = DescribeEngine(engine_->info());
  hello.role = identity_.role;
  hello.name = name;
  hello.boot_id = boot_id;
  if (!identity_.model_name.empty()) hello.model_name = identity_.model_name;
  hello.vocabulary_fingerprint = identity_.vocabulary_fingerprint;
  hello.limits = identity_.limits;
  hello.blocks = blocks();
  hello.step_times = identity_.step_times;
  return hello;
}

StepTimes SessionFace::MeasureStepTimes() {
  identity_.step_times = workers::MeasureStepTimes(engine_, *clock_);
  return identity_.step_times;
}

void SessionFace::ShowProgress(size_t num_sequences) {
  progress_->SetBlocks(blocks());
  progress_->SetNumSequences(static_cast<int64_t>(num_sequences));
}

}  // namespace mirrorsd::workers
