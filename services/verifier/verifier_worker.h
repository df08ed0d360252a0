#pragma once
// The verifier-worker as a library: a model_worker whose session serves verify rounds of the target.

#include "services/worker/model_worker.h"
#include "workers/verifier/verifier_session.h"

namespace mirrorsd::verifier {

using VerifierWorkerOptions = worker::ModelWorkerOptions<workers::VerifierSessionOptions>;
using VerifierWorker = worker::ModelWorker<workers::VerifierSession, workers::VerifierSessionOptions>;

}  // namespace mirrorsd::verifier

namespace mirrorsd::worker {
extern template class ModelWorker<workers::VerifierSession, workers::VerifierSessionOptions>;
}  // namespace mirrorsd::worker
