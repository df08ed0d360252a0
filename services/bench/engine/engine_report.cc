#include "services/bench/engine/engine_report.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/bench/result_line.h"
#include "services/bench/svg_plot.h"

namespace mirrorsd::bench {
namespace {

// The step of one row that this one is compared with; null for other kinds.
const MeasuredStep* OneRowOf(const EngineMeasurement& measurement, const StepCase& step) {
  if (step.kind != StepKind::kVerify && step.kind != StepKind::kHead) return nullptr;
  for (const MeasuredStep& other : measurement.steps) {
    if (other.step == StepCase{step.kind, 1, step.context}) return &other;
  }
  return nullptr;
}

// What the machine did on the median: with others at work, steps have no more than that.
engine::MachineLimits MedianLimits(const EngineMeasurement& measurement) {
  std::vector<double> read, fma;
  for (const engine::MachineLimits& limits : measurement.limits) {
    read.push_back(limits.read_gb_per_s);
    fma.push_back(limits.fma_gflop_per_s);
  }
  if (read.empty()) return {};
  return {Median(read), Median(fma)};
}

}  // namespace

std::vector<StepFigure> MakeStepFigures(const EngineMeasurement& measurement) {
  const engine::MachineLimits limits = measurement.BestLimits();
  std::vector<StepFigure> figures;
  for (const MeasuredStep& measured : measurement.steps) {
    StepFigure figure;
    figure.step = measured.step;
    std::vector<double> milliseconds = measured.seconds;
    for (double& value : milliseconds) value *= 1e3;
    figure.milliseconds = MedianEstimate(milliseconds);
    const double seconds = figure.milliseconds.value * 1e-3;
    if (seconds > 0) {
      figure.gb_per_s = measured.cost.Bytes() / seconds * 1e-9;
      figure.gflop_per_s = measured.cost.flops / seconds * 1e-9;
    }
    if (limits.read_gb_per_s > 0) figure.of_read = figure.gb_per_s / limits.read_gb_per_s;
    if (limits.fma_gflop_per_s > 0) figure.of_fma = figure.gflop_per_s / limits.fma_gflop_per_s;
    const MeasuredStep* one_row = OneRowOf(measurement, measured.step);
    if (one_row != nullptr) figure.of_one_row = PairedRatio(measured.seconds, one_row->seconds);
    figures.push_back(figure);
  }
  return figures;
}

std::string EngineTable(const EngineMeasurement& measurement, const std::vector<StepFigure>& figures) {
  const engine::MachineLimits limits = measurement.BestLimits(), median = MedianLimits(measurement);
  std::string table = absl::StrFormat("%-16s %7s %22s %8s %7s %8s %7s %9s\n", "step", "context",
                                      "ms (95 % interval)", "GB/s", "of read", "GFLOP/s", "of FMA",
                                      "of 1 row");
  for (const StepFigure& figure : figures) {
    const Estimate& ms = figure.milliseconds;
    absl::StrAppendFormat(&table, "%-16s %7d %9.3f (%s) %8.2f %5.0f %% %8.1f %5.1f %% %9s\n",
                          figure.step.Name(), figure.step.context, ms.value,
                          absl::StrFormat("%.2f-%.2f", ms.low, ms.high), figure.gb_per_s,
                          100 * figure.of_read, figure.gflop_per_s, 100 * figure.of_fma,
                          figure.of_one_row.count > 0
                              ? absl::StrFormat("%.2f x", figure.of_one_row.value) : "");
  }
  absl::StrAppendFormat(&table,
                        "\n%d threads; in the same run the machine read %.1f GB/s (median %.1f) and did %.0f "
                        "GFLOP/s (median %.0f) of\nmultiply-adds at best; others kept %.1f cores busy. GB/s "
                        "counts weights and KV, each once a step; a KV\ncopy, what it reads and writes.\n",
                        measurement.num_threads, limits.read_gb_per_s, median.read_gb_per_s,
                        limits.fma_gflop_per_s, median.fma_gflop_per_s, measurement.other_load_cores);
  return table;
}

void AddEngine(const EngineMeasurement& measurement, const std::vector<StepFigure>& figures,
               nlohmann::ordered_json* line) {
  const engine::MachineLimits limits = measurement.BestLimits(), median = MedianLimits(measurement);
  (*line)["threads"] = measurement.num_threads;
  (*line)["other_load_cores"] = Rounded(measurement.other_load_cores);
  (*line)["limits"] = {{"read_GB/s", Rounded(limits.read_gb_per_s)},
                       {"fma_GFLOP/s", Rounded(limits.fma_gflop_per_s)},
                       {"median_read_GB/s", Rounded(median.read_gb_per_s)},
                       {"median_fma_GFLOP/s", Rounded(median.fma_gflop_per_s)}};
  nlohmann::ordered_json steps = nlohmann::ordered_json::array();
  for (const StepFigure& figure : figures) {
    const Estimate& ms = figure.milliseconds;
    nlohmann::ordered_json step = {
        {"step", figure.step.Name()}, {"rows", figure.step.rows}, {"context", figure.step.context},
        {"ms", Rounded(ms.value)}, {"ms_interval", {Rounded(ms.low), Rounded(ms.high)}},
        {"repeats", ms.count}, {"GB/s", Rounded(figure.gb_per_s)}, {"of_read", Rounded(figure.of_read)},
        {"GFLOP/s", Rounded(figure.gflop_per_s)}, {"of_fma", Rounded(figure.of_fma)}};
    if (figure.of_one_row.count > 0) step["of_one_row"] = Rounded(figure.of_one_row.value);
    steps.push_back(std::move(step));
  }
  (*line)["figures"] = std::move(steps);
}

std::string RowsPlot(const std::vector<StepFigure>& figures, const std::string& label) {
  Plot plot;
  plot.title = "Cost of verifying several rows";
  plot.subtitle = label;
  plot.x_label = "rows of the step";
  plot.y_label = "time over that of one row";
  plot.x_is_logarithmic = true;
  plot.guide_y = 1;
  std::map<int, PlotSeries> by_context;
  for (const StepFigure& figure : figures) {
    if (figure.step.kind != StepKind::kVerify || figure.of_one_row.count == 0) continue;
    PlotSeries& series = by_context[figure.step.context];
    series.name = absl::StrCat("context ", figure.step.context);
    series.values.push_back({static_cast<double>(figure.step.rows), figure.of_one_row.value,
                             figure.of_one_row.low, figure.of_one_row.high});
  }
  for (auto& [context, series] : by_context) plot.series.push_back(std::move(series));
  return SvgText(plot);
}

}  // namespace mirrorsd::bench
