#include "services/verifier/verifier_worker.h"

namespace mirrorsd::worker {
template class ModelWorker<workers::VerifierSession, workers::VerifierSessionOptions>;
}  // namespace mirrorsd::worker
