#pragma once
// What `serve` tells on standard output: where it listens, what it serves, and the lives of its children. Lines
// are flushed one by one. Thread-safe.

#include <string>

#include "scheduler/core/core.h"
#include "services/config/options.h"

namespace mirrorsd::cli {

// One line.
void Say(const std::string& line);

// "speculation mirror, 4 tokens a round, 4 candidates a row, at most 64 branches, after a miss empty".
std::string SpeculationLine(const scheduler::CoreConfig& core);

// The lines at the start: version, addresses, models, speculation.
void ReportListening(const config::Options& options, const std::string& grpc,
                     const std::string& http);

}  // namespace mirrorsd::cli
