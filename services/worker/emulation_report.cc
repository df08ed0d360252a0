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

void ShowScript(telemetry::MetricRegistry* registry, const scripts::ScriptedDraft* script) {
  if (script == nullptr) return;
  const scripts::ScriptCounts counts = script->counts();
  const telemetry::CounterFamily proposals = registry->Counters(
      "scripted_proposals_total",
      "Tokens that a draft with a script proposed, by what they were; left, past_end and unscripted are "
      "the model's own.");
  const auto show = [&](const char* outcome, int64_t total) {
    proposals.With({{"outcome", outcome}}).AdvanceTo(static_cast<double>(total));
  };
  show("agreed", counts.num_agreed);
  show("disagreed", counts.num_disagreed);
  show("left", counts.num_left);
  show("past_end", counts.num_past_end);
  show("unscripted", counts.num_unscripted);
}

void LogScriptBegin(const std::string& role, const scripts::ScriptedDraft* script) {
  if (script == nullptr) return;
  telemetry::LogInfo(role, "proposals follow a script: acceptance is synthetic",
                     {{"target", script->script().model_name()},
                      {"streams", script->script().num_streams()}});
}

void LogScriptEnd(const std::string& role, const scripts::ScriptedDraft* script) {
  if (script == nullptr) return;
  const scripts::ScriptCounts counts = script->counts();
  telemetry::LogInfo(role, "what the script gave",
                     {{"agreed", counts.num_agreed},
                      {"disagreed", counts.num_disagreed},
                      {"left", counts.num_left},
                      {"past_end", counts.num_past_end},
                      {"unscripted", counts.num_unscripted}});
}

}  // namespace mirrorsd::worker
