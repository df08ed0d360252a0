#pragma once
// What the latency law, and the paper's, say to a simulated life: the law with the phases that were measured,
// the paper's with what it knows of. Pure functions.

#include "tools/simulate/figures.h"
#include "tools/simulate/simulation.h"

namespace mirrorsd::simulate {

// Of modes that the law has a formula for; zeros for others.
LawFigures CompareWithLaw(const Settings& settings, const Figures& figures);

}  // namespace mirrorsd::simulate
