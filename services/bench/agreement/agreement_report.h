#pragma once
// What `mirrorsd bench agreement` says: tables in Markdown, a JSON object, plots. Pure functions.

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "workers/measure/agreement.h"

namespace mirrorsd::bench {

struct AgreementRun {
  double temperature = 0.0;
  measure::AgreementReport report;
};

struct AgreementSetting {
  std::string label;       // what was measured
  bool synthetic = false;  // a twin: every table and plot says so
  int32_t exit_layer = 0;
  int32_t num_layers = 0;
  int32_t window = 0;
};

std::string AgreementTables(const AgreementSetting& setting, const std::vector<AgreementRun>& runs);
nlohmann::ordered_json AgreementFiguresJson(const AgreementSetting& setting,
                                            const std::vector<AgreementRun>& runs);
// File names and SVG texts.
std::vector<std::pair<std::string, std::string>> AgreementPlots(const AgreementSetting& setting,
                                                                const std::vector<AgreementRun>& runs);

}  // namespace mirrorsd::bench
