#pragma once
// A schedule as a transcript in the language of tests/scenarios: what went in, one line per event; the answers
// ("> ...") are printed by scheduler/transcript. Pure functions.

#include <map>
#include <string>

#include "scheduler/core/events.h"
#include "tests/sim/plan/plan.h"

namespace mirrorsd::sim {

// Every line is printed as it comes: for a schedule that ends the process.
void EchoStories();
void EchoLine(const std::string& line);

std::string DescribeConfig(const Plan& plan);

// `names` of connections and streams.
std::string PrintEvent(const scheduler::Event& event,
                       const std::map<ConnectionId, std::string>& names);

}  // namespace mirrorsd::sim
