#include "services/bench/agreement/agreement_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "services/bench/result_line.h"
#include "services/bench/svg_plot.h"

namespace mirrorsd::bench {
namespace {

using measure::AgreementFigures;
using measure::Share;

std::vector<const AgreementFigures*> RowsOf(const measure::AgreementReport& report) {
  std::vector<const AgreementFigures*> rows = {&report.all};
  for (const AgreementFigures& kind : report.kinds) {
    if (report.kinds.size() > 1) rows.push_back(&kind);
  }
  return rows;
}

// "78.3 ±2.1", or "-" of nothing.
std::string Percent(const Share& share) {
  if (share.count() == 0) return "-";
  if (share.half_width() >= 1.0) return absl::StrFormat("%.1f", 100 * share.value());
  return absl::StrFormat("%.1f ±%.1f", 100 * share.value(), 100 * share.half_width());
}

std::string Title(const AgreementSetting& setting) {
  return absl::StrCat(setting.label, setting.synthetic ? " (synthetic)" : "");
}

void AppendMatches(const AgreementSetting& setting, const AgreementRun& run, std::string* out) {
  absl::StrAppend(out, "\n| kind | prompts | tokens | agreement % | acceptance length at ", setting.window,
                  " | exit recall@1 % | @2 | @4 | @8 | given a reject @1 % | @2 | @4 | @8 |\n");
  absl::StrAppend(out, "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  for (const AgreementFigures* row : RowsOf(run.report)) {
    absl::StrAppendFormat(out, "| %s | %d | %d | %s | %.2f |", row->kind, row->num_prompts,
                          row->agreement.count(), Percent(row->agreement),
                          row->rounds.mean_acceptance_length());
    for (const Share& share : row->exit_recall) absl::StrAppend(out, " ", Percent(share), " |");
    for (const Share& share : row->exit_recall_given_reject) absl::StrAppend(out, " ", Percent(share), " |");
    absl::StrAppend(out, "\n");
  }
}

void AppendAcceptances(const AgreementRun& run, std::string* out) {
  absl::StrAppend(out, "\n| kind | coupled noise % | bound (1-TV)/(1+TV) % | ratio test, 1-TV % | independent noise % "
                       "| independent, expected % |\n|---|---|---|---|---|---|\n");
  for (const AgreementFigures* row : RowsOf(run.report)) {
    absl::StrAppend(out, "| ", row->kind, " | ", Percent(row->agreement), " | ", Percent(row->coupled_bound),
                    " | ", Percent(row->ratio_test), " | ", Percent(row->independent), " | ",
                    Percent(row->independent_expected), " |\n");
  }
}

nlohmann::ordered_json ShareJson(const Share& share) {
  return {{"value", Rounded(share.value())}, {"plus_minus", Rounded(share.half_width())},
          {"rows", share.count()}};
}

nlohmann::ordered_json FiguresJson(const AgreementFigures& figures, bool sampled) {
  nlohmann::ordered_json json = {{"prompts", figures.num_prompts},
                                 {"tokens", figures.agreement.count()},
                                 {"agreement", ShareJson(figures.agreement)},
                                 {"acceptance_length", Rounded(figures.rounds.mean_acceptance_length())},
                                 {"distinct_tokens", figures.variety.num_distinct_tokens},
                                 {"distinct_runs_of_8", Rounded(figures.variety.share_of_distinct_runs())}};
  for (size_t i = 0; i < measure::kRecallTopKs.size(); ++i) {
    const std::string k = absl::StrCat(measure::kRecallTopKs[i]);
    json["exit_recall"][k] = ShareJson(figures.exit_recall[i]);
    json["exit_recall_given_reject"][k] = ShareJson(figures.exit_recall_given_reject[i]);
  }
  if (!sampled) return json;
  json["independent"] = ShareJson(figures.independent);
  json["independent_expected"] = ShareJson(figures.independent_expected);
  json["ratio_test"] = ShareJson(figures.ratio_test);
  json["coupled_bound"] = ShareJson(figures.coupled_bound);
  return json;
}

PlotValue Bar(const Share& share) {
  PlotValue value{.y = 100 * share.value()};
  if (share.half_width() < 1.0) {
    value.low = 100 * std::max(0.0, share.value() - share.half_width());
    value.high = 100 * std::min(1.0, share.value() + share.half_width());
  }
  return value;
}

template <typename Pick>
PlotSeries Series(const std::string& name, const measure::AgreementReport& report, Pick&& pick) {
  PlotSeries series{.name = name};
  for (const AgreementFigures* row : RowsOf(report)) series.values.push_back(Bar(pick(*row)));
  return series;
}

Plot EmptyPlot(const AgreementSetting& setting, const AgreementRun& run, const std::string& title,
               const std::string& y_label) {
  Plot plot{.title = absl::StrCat(title, ": ", Title(setting)),
            .subtitle = absl::StrFormat("teacher-forced, temperature %g, exit after layer %d of %d, %d tokens",
                                        run.temperature, setting.exit_layer, setting.num_layers,
                                        run.report.all.agreement.count()),
            .y_label = y_label};
  for (const AgreementFigures* row : RowsOf(run.report)) plot.groups.push_back(row->kind);
  return plot;
}

}  // namespace

std::string AgreementTables(const AgreementSetting& setting, const std::vector<AgreementRun>& runs) {
  std::string out = absl::StrFormat("%s, exit after layer %d of %d\n", Title(setting), setting.exit_layer,
                                    setting.num_layers);
  for (const AgreementRun& run : runs) {
    absl::StrAppendFormat(&out, "\nTemperature %g; %d distinct tokens, %.1f %% of the runs of 8 are distinct\n",
                          run.temperature, run.report.all.variety.num_distinct_tokens,
                          100 * run.report.all.variety.share_of_distinct_runs());
    AppendMatches(setting, run, &out);
    if (run.temperature > 0) AppendAcceptances(run, &out);
  }
  return out;
}

nlohmann::ordered_json AgreementFiguresJson(const AgreementSetting& setting,
                                            const std::vector<AgreementRun>& runs) {
  nlohmann::ordered_json json = {{"synthetic", setting.synthetic},
                                 {"exit_layer", setting.exit_layer},
                                 {"layers", setting.num_layers},
                                 {"window", setting.window}};
  for (const AgreementRun& run : runs) {
    nlohmann::ordered_json& of_run = json[absl::StrFormat("temperature %g", run.temperature)];
    for (const AgreementFigures* row : RowsOf(run.report)) {
      of_run[row->kind] = FiguresJson(*row, run.temperature > 0);
    }
  }
  return json;
}

std::vector<std::pair<std::string, std::string>> AgreementPlots(const AgreementSetting& setting,
                                                                const std::vector<AgreementRun>& runs) {
  std::vector<std::pair<std::string, std::string>> plots;
  for (const AgreementRun& run : runs) {
    const std::string suffix = absl::StrFormat("_t%g.svg", run.temperature);
    Plot plot = EmptyPlot(setting, run, "Agreement and exit recall", "% of the target's tokens");
    plot.series.push_back(Series("draft agrees", run.report, [](const auto& row) { return row.agreement; }));
    for (size_t i = 0; i < measure::kRecallTopKs.size(); ++i) {
      plot.series.push_back(Series(absl::StrCat("exit recall@", measure::kRecallTopKs[i]), run.report,
                                   [i](const auto& row) { return row.exit_recall[i]; }));
    }
    plots.emplace_back("agreement" + suffix, SvgText(plot));
    Plot rejects = EmptyPlot(setting, run, "Exit recall of the correction token given a reject",
                             "% of the rejects");
    for (size_t i = 0; i < measure::kRecallTopKs.size(); ++i) {
      rejects.series.push_back(Series(absl::StrCat("recall@", measure::kRecallTopKs[i]), run.report,
                                      [i](const auto& row) { return row.exit_recall_given_reject[i]; }));
    }
    plots.emplace_back("recall_given_reject" + suffix, SvgText(rejects));
    if (run.temperature <= 0) continue;
    Plot noise = EmptyPlot(setting, run, "Acceptance", "% of the tokens");
    noise.series = {
        Series("coupled noise", run.report, [](const auto& row) { return row.agreement; }),
        Series("bound (1-TV)/(1+TV)", run.report, [](const auto& row) { return row.coupled_bound; }),
        Series("ratio test, 1-TV", run.report, [](const auto& row) { return row.ratio_test; }),
        Series("independent noise", run.report, [](const auto& row) { return row.independent_expected; })};
    plots.emplace_back("acceptance" + suffix, SvgText(noise));
  }
  return plots;
}

}  // namespace mirrorsd::bench
