#pragma once
// What `mirrorsd tune` says: a table for each temperature, the flags to use, a JSON object. Pure functions.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "services/bench/tune/tune_choice.h"

namespace mirrorsd::bench {

struct TuneRun {
  double temperature = 0;
  std::vector<ExitLayer> exits;  // by layer
};

std::string TuneTables(const std::string& label, const TuneSetting& setting, const std::vector<TuneRun>& runs);
nlohmann::ordered_json TuneFiguresJson(const TuneSetting& setting, const std::vector<TuneRun>& runs);

}  // namespace mirrorsd::bench
