#include "services/draft/draft_worker.h"

namespace mirrorsd::worker {
template class ModelWorker<workers::DraftSession, workers::DraftSessionOptions>;
}  // namespace mirrorsd::worker
