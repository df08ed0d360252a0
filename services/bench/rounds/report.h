#pragma once
// From a measurement to figures: one for each (batch, temperature, contestant, category), "all" being every category
// together; as a table for people, as JSON, and back from JSON for comparisons. A repeat counts for a ratio only
// where plain decoding was measured in it too. Pure functions.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/bench/rounds/plan.h"
#include "services/bench/rounds/run.h"
#include "services/bench/statistics.h"

namespace mirrorsd::bench {

inline constexpr char kAllCategories[] = "all";

struct Figure {
  int batch = 1;
  double temperature = 0;
  Contestant contestant;
  std::string category;
  Estimate decode_rate;       // tokens a second without the prefill, the whole batch
  Estimate end_to_end_rate;   // tokens a second from asking on
  Estimate speed;             // decode time of plain decoding over this one's, paired by repeat
  Estimate end_to_end_speed;
  Sums sums;                  // of all repeats
  MetricsReading phases;      // of rounds without prompt tokens
  // Of mirror: what the latency law makes of the serial rounds of the same window, measured in the same run, and of
  // the exit head, to be held against RoundMilliseconds().
  std::optional<double> predicted_round_ms;

  double AcceptanceLength() const { return sums.rounds > 0 ? 1 + sums.accepted / sums.rounds : 0; }
  double AcceptanceRate() const { return sums.drafted > 0 ? sums.accepted / sums.drafted : 0; }
  // Of the rounds whose last outcome could have been a branch.
  double HitRate() const {
    const double all = sums.branch_hits + sums.branch_misses;
    return all > 0 ? sums.branch_hits / all : 0;
  }
  // A round at the scheduler, waits for the draft included.
  double RoundMilliseconds() const {
    const double count = phases.Count("total");
    return count > 0 ? 1000 * (phases.Seconds("total") + phases.wait_for_draft.seconds) / count : 0;
  }
  double HitDepth() const { return sums.branch_hits > 0 ? sums.branch_hit_depth / sums.branch_hits : 0; }
};

std::vector<Figure> MakeFigures(const RoundsSettings& settings, const RoundsMeasurement& measurement);

std::string RoundsTable(const RoundsSettings& settings, const RoundsMeasurement& measurement,
                        const std::vector<Figure>& figures);
// branch_report.cc: rounds as the latency law has them; what branches came to, empty where no mode has them.
void PredictRounds(std::vector<Figure>* figures);
std::string BranchTable(const std::vector<Figure>& figures);
void AddBranches(const Figure& figure, nlohmann::ordered_json* json);

// Adds `figures` and how they came about to a line of result_line.h.
void AddRounds(const RoundsSettings& settings, const RoundsMeasurement& measurement,
               const std::vector<Figure>& figures, nlohmann::ordered_json* line);

// Two lines of two runs side by side, by batch, temperature, contestant and category: speeds and acceptance lengths
// against their own intervals. `agree` is false where more figures differ than chance explains.
struct Comparison {
  std::string table;
  int num_figures = 0;
  int num_apart = 0;
  bool agree = false;
};
// Errors:  BAD_FILE where a line is none of `bench rounds`, or where nothing can be compared
absl::StatusOr<Comparison> CompareRounds(const nlohmann::json& a, const nlohmann::json& b,
                                         const std::string& path_a, const std::string& path_b);

}  // namespace mirrorsd::bench
