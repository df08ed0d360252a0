#pragma once
// What comes first in every main. Called once, before any thread is there.

namespace mirrorsd::cell {

// Switches off the packaged Abseil's look for lock cycles, which costs gRPC's latency, and blocks SIGINT and
// SIGTERM (signals.h).
void StartProcess();

}  // namespace mirrorsd::cell
