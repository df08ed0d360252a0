#pragma once
// The draft-worker as a library: a model_worker whose session rolls out continuations.

#include "services/worker/model_worker.h"
#include "workers/draft/draft_session.h"

namespace mirrorsd::draft {

using DraftWorkerOptions = worker::ModelWorkerOptions<workers::DraftSessionOptions>;
using DraftWorker = worker::ModelWorker<workers::DraftSession, workers::DraftSessionOptions>;

}  // namespace mirrorsd::draft

namespace mirrorsd::worker {
extern template class ModelWorker<workers::DraftSession, workers::DraftSessionOptions>;
}  // namespace mirrorsd::worker
