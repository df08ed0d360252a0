#pragma once
// From the option table to the option structs of the role libraries. Pure functions; addresses that depend on
// how the roles are wired are left to the caller.

#include <functional>
#include <string>

#include "services/cell/cell.h"
#include "services/config/options.h"
#include "services/draft/draft_worker.h"
#include "services/gateway/gateway_server.h"
#include "services/scheduler/scheduler_server.h"
#include "services/verifier/verifier_worker.h"

namespace mirrorsd::cell {

// `has_draft` decides the default of --speculation where it is not given.
scheduler::SchedulerServerOptions SchedulerOptions(const config::Options& options, bool has_draft);
verifier::VerifierWorkerOptions VerifierOptions(const config::Options& options);
draft::DraftWorkerOptions DraftOptions(const config::Options& options);
gateway::GatewayServerOptions GatewayOptions(const config::Options& options);

// The option structs of a whole cell in one process.
CellOptions CellOptionsFrom(const config::Options& options);

// The engine of the target (or, with `of_draft`, of the draft), for programs that have one.
engine::EngineOptions EngineOptions(const config::Options& options, bool of_draft);

// "HOST:PORT", the host in brackets where it has colons.
std::string HostPort(const std::string& host, int64_t port);

// Log level and format; `quiet` programs show errors only unless told otherwise.
void InitLoggingFrom(const config::Options& options, bool quiet);

// Shows on standard error how far a model has been read, where that is a terminal and it takes long.
std::function<void(const engine::LoadProgress&)> ShowLoadProgress(const std::string& model_dir);

}  // namespace mirrorsd::cell
