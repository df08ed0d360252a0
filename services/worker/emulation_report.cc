#include "services/worker/emulation_report.h"

#include "services/telemetry/log.h"

namespace mirrorsd::worker {

void ShowPacing(telemetry::MetricRegistry* registry, const std::string& role,
                const pacing::DevicePacer* pacer) {
  if (pacer == nullptr) return;
  const pacing::PacingCounts counts = pacer->counts();
  const auto show = [&](const char* name, const char* help, double total) {
    registry->Counters(name, help).With({{"role", role}}).AdvanceTo(total);
  };
  show("paced_steps_total", "Steps of a worker that emulates a device's times.",
       static_cast<double>(counts.num_steps));
  show("paced_overruns_total",
       "Of them, those whose compute took longer than the device; above 0.1 % figures are void.",
       static_cast<double>(counts.num_overruns));
  show("paced_late_wakes_total", "Of them, those that ended 0.2 ms late or more for want of a core.",
       static_cast<double>(counts.num_late_wakes));
  show("paced_overrun_seconds_total", "By how much overruns were over.",
       static_cast<double>(counts.overrun_ns) * 1e-9);
}

void LogPacingBegin(const std::string& role, const pacing::DevicePacer* pacer) {
  if (pacer == nullptr) return;
  const pacing::DeviceProfile& profile = pacer->profile();
  telemetry::LogInfo(role, "emulating a device's step times",
                     {{"profile", profile.name},
                      {"basis", pacing::NameOf(profile.basis)},
                      {"description", profile.description}});
}

void LogPacingEnd(const std::string& role, const pacing::DevicePacer* pacer) {
  if (pacer == nullptr || pacer->counts().num_steps == 0) return;
  const pacing::PacingCounts counts = pacer->counts();
  if (counts.IsVoid()) {
    telemetry::LogError(role, "paced run is VOID: too many steps took longer than the device's",
                        {{"profile", pacer->profile().name}, {"counts", counts.Describe()}});
    return;
  }
  telemetry::LogInfo(role, "paced run kept its times",
                     {{"profile", pacer->profile().name}, {"counts", counts.Describe()}});
}

}  // namespace mirrorsd::worker
