#pragma once
// An action of the core as one line of a transcript. Pure functions.

#include <map>
#include <string>

#include "scheduler/core/events.h"

namespace mirrorsd::scheduler {

// `names` of connections and streams.
std::string Print(const Action& action, const std::map<ConnectionId, std::string>& names);

}  // namespace mirrorsd::scheduler
