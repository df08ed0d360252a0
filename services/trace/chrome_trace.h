#pragma once
// A timeline as Chrome trace-event JSON, which chrome://tracing and ui.perfetto.dev read: a process for each worker
// and one for the transfers between them, a thread for each lane, flow arrows from the exit head over the rollout to
// the round that began with it. Pure.

#include <string>

#include "services/trace/timeline.h"

namespace mirrorsd::trace {

// One JSON object, an event a line.
std::string ChromeTraceText(const Timeline& timeline);

}  // namespace mirrorsd::trace
