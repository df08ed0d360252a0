#pragma once
// The plots of a run of `bench rounds`. Pure functions.

#include <string>
#include <utility>
#include <vector>

#include "services/bench/rounds/report.h"

namespace mirrorsd::bench {

// (file name, SVG text) of each plot that the figures give: speed and acceptance length by category; speed by window
// and by batch where there are several. `subtitle` says what was measured.
std::vector<std::pair<std::string, std::string>> RoundsPlots(const std::vector<Figure>& figures,
                                                             const std::string& subtitle);

}  // namespace mirrorsd::bench
