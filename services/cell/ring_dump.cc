#include "services/cell/ring_dump.h"

#include <csignal>
#include <string>

#include "services/telemetry/log.h"

namespace mirrorsd::cell {

RingDumpOnSignal::RingDumpOnSignal(scheduler::SchedulerServer* scheduler)
    : watch_(
          [scheduler](int) {
            const auto path = scheduler->DumpRing("SIGUSR1");
            if (path.ok()) {
              telemetry::LogInfo("scheduler", "the last events are written", {{"file", *path}});
            } else {
              telemetry::LogError("scheduler", "the last events are not written",
                                  {{"reason", std::string(path.status().message())}});
            }
          },
          SIGUSR1) {}

}  // namespace mirrorsd::cell
