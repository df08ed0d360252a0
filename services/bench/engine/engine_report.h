#pragma once
// From measured steps to figures: a table for people, a JSON line, a plot of what further rows cost. Pure functions.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "services/bench/engine/engine_run.h"
#include "services/bench/statistics.h"

namespace mirrorsd::bench {

struct StepFigure {
  StepCase step;
  Estimate milliseconds;
  double gb_per_s = 0;   // bytes that must be touched over the median time
  double of_read = 0;    // of the best reading of the same run
  double gflop_per_s = 0;
  double of_fma = 0;
  // Time over that of the decode step at the same context, paired by repeat; of the head, over its one row.
  // count 0: there is none.
  Estimate of_one_row;
};

std::vector<StepFigure> MakeStepFigures(const EngineMeasurement& measurement);

std::string EngineTable(const EngineMeasurement& measurement, const std::vector<StepFigure>& figures);

// Adds figures, limits and settings to a line of result_line.h.
void AddEngine(const EngineMeasurement& measurement, const std::vector<StepFigure>& figures,
               nlohmann::ordered_json* line);

// Time of a verify step over that of one row, a line for each context.
std::string RowsPlot(const std::vector<StepFigure>& figures, const std::string& label);

}  // namespace mirrorsd::bench
