#include "services/cell/process_start.h"

#include "absl/synchronization/mutex.h"
#include "services/cell/signals.h"

namespace mirrorsd::cell {

void StartProcess() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  BlockSignals();
}

}  // namespace mirrorsd::cell
