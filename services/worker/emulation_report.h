#pragma once
// What a worker that emulates another device, or a draft that follows a script, tells people of it: metrics, and
// a line in the log when it starts and when it ends. A run with too many overruns says that it is void.
// Callable from any one thread. Where a pointer is null there is nothing to tell.

#include <string>

#include "services/telemetry/metrics.h"
#include "workers/pacing/device_pacer.h"
#include "workers/scripts/scripted_draft.h"

namespace mirrorsd::worker {

// paced_steps_total, paced_overruns_total, paced_late_wakes_total, paced_overrun_seconds_total by role.
void ShowPacing(telemetry::MetricRegistry* registry, const std::string& role,
                const pacing::DevicePacer* pacer);

// Which device is emulated, and where its figures come from.
void LogPacingBegin(const std::string& role, const pacing::DevicePacer* pacer);
// What came of it; an error where the figures are void.
void LogPacingEnd(const std::string& role, const pacing::DevicePacer* pacer);

// scripted_proposals_total by outcome: agreed, disagreed, left, past_end, unscripted.
void ShowScript(telemetry::MetricRegistry* registry, const scripts::ScriptedDraft* script);
void LogScriptBegin(const std::string& role, const scripts::ScriptedDraft* script);
void LogScriptEnd(const std::string& role, const scripts::ScriptedDraft* script);

}  // namespace mirrorsd::worker
