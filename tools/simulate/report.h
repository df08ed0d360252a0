#pragma once
// Figures for people and for files: a table of the modes side by side, one JSON object, plots. Pure functions.

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tools/simulate/figures.h"
#include "tools/simulate/simulation.h"

namespace mirrorsd::simulate {

std::string TableText(const std::vector<Figures>& modes);
// One object by mode.
nlohmann::ordered_json ToJson(const std::vector<Figures>& modes);
// (file name, SVG text); `label` becomes the subtitle.
std::vector<std::pair<std::string, std::string>> Plots(const std::vector<Figures>& modes,
                                                       const std::string& label);
// "h100-qwen3-14b with npu-qwen3-0.6b, 16 at once" and the like.
std::string DescribeSettings(const Settings& settings);

}  // namespace mirrorsd::simulate
