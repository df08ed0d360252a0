#pragma once
// What `serve` tells on standard output: where it listens, what it serves, and the lives of its children. Lines
// are flushed one by one. Thread-safe.

#include <string>

#include "services/config/options.h"

namespace mirrorsd::cli {

// One line.
void Say(const std::string& line);

// The lines at the start: version, addresses, models, speculation.
void ReportListening(const config::Options& options, const std::string& grpc,
                     const std::string& http);

}  // namespace mirrorsd::cli
