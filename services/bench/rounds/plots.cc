#include "services/bench/rounds/plots.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "services/bench/svg_plot.h"

namespace mirrorsd::bench {
namespace {

PlotValue ValueOf(double x, const Estimate& estimate) {
  PlotValue value{.x = x, .y = estimate.count > 0 ? estimate.value : std::nan("")};
  if (estimate.count > 1) value.low = estimate.low, value.high = estimate.high;
  return value;
}

using Taken = PlotValue (*)(const Figure&);

// Bars by category, a series for each contestant but the plain one, of one batch and temperature.
Plot ByCategory(const std::vector<Figure>& figures, Taken take) {
  Plot plot;
  std::map<std::string, std::map<std::string, PlotValue>> values;  // [contestant][category]
  std::vector<std::string> contestants;
  std::set<std::string> categories;
  for (const Figure& figure : figures) {
    if (figure.contestant.IsPlain()) continue;
    const std::string name = figure.contestant.Name();
    if (!values.contains(name)) contestants.push_back(name);
    values[name][figure.category] = take(figure);
    categories.insert(figure.category);
  }
  plot.groups.assign(categories.begin(), categories.end());
  for (const std::string& name : contestants) {
    PlotSeries series{name, {}};
    for (const std::string& category : plot.groups) {
      const auto found = values[name].find(category);
      series.values.push_back(found != values[name].end() ? found->second
                                                          : PlotValue{.y = std::nan("")});
    }
    plot.series.push_back(std::move(series));
  }
  return plot;
}

// Lines of speed over all categories along `x`; `series_of` names the line.
template <typename X, typename SeriesOf>
Plot Along(const std::vector<Figure>& figures, X x, SeriesOf series_of) {
  Plot plot;
  std::map<std::string, size_t> index;
  for (const Figure& figure : figures) {
    if (figure.contestant.IsPlain() || figure.category != kAllCategories) continue;
    const auto [found, is_new] = index.try_emplace(series_of(figure), plot.series.size());
    if (is_new) plot.series.push_back({found->first, {}});
    plot.series[found->second].values.push_back(ValueOf(x(figure), figure.speed));
  }
  for (PlotSeries& series : plot.series) {
    std::sort(series.values.begin(), series.values.end(),
              [](const PlotValue& a, const PlotValue& b) { return a.x < b.x; });
  }
  plot.x_is_logarithmic = true;
  plot.guide_y = 1;
  plot.y_label = "speed over plain decoding";
  return plot;
}

bool HasSeveralX(const Plot& plot) {
  return std::any_of(plot.series.begin(), plot.series.end(),
                     [](const PlotSeries& series) { return series.values.size() > 1; });
}

}  // namespace

std::vector<std::pair<std::string, std::string>> RoundsPlots(const std::vector<Figure>& figures,
                                                             const std::string& subtitle) {
  std::vector<std::pair<std::string, std::string>> plots;
  std::map<std::pair<int, double>, std::vector<Figure>> by_setting;
  for (const Figure& figure : figures) by_setting[{figure.batch, figure.temperature}].push_back(figure);
  for (const auto& [setting, group] : by_setting) {
    const std::string where = absl::StrCat("batch ", setting.first, ", temperature ", setting.second);
    const std::string file = absl::StrCat("batch", setting.first, "_temperature", setting.second, ".svg");
    Plot speed = ByCategory(group, [](const Figure& figure) { return ValueOf(0, figure.speed); });
    speed.title = absl::StrCat("Speed over plain decoding, ", where);
    speed.subtitle = subtitle;
    speed.y_label = "speed over plain decoding";
    speed.guide_y = 1;
    plots.emplace_back("speed_" + file, SvgText(speed));
    Plot length = ByCategory(group, [](const Figure& figure) {
      return PlotValue{.y = figure.AcceptanceLength()};
    });
    length.title = absl::StrCat("Mean acceptance length, ", where);
    length.subtitle = subtitle;
    length.y_label = "tokens a round";
    plots.emplace_back("length_" + file, SvgText(length));
  }
  const auto setting_name = [](const Figure& figure) {
    return absl::StrCat(figure.contestant.mode, ", batch ", figure.batch, ", temperature ",
                        figure.temperature);
  };
  Plot windows = Along(figures, [](const Figure& figure) { return figure.contestant.window; }, setting_name);
  windows.title = "Speed over plain decoding by window";
  windows.subtitle = subtitle;
  windows.x_label = "window (draft tokens a round)";
  if (HasSeveralX(windows)) plots.emplace_back("speed_by_window.svg", SvgText(windows));
  Plot batches = Along(figures, [](const Figure& figure) { return figure.batch; },
                       [](const Figure& figure) {
                         return absl::StrCat(figure.contestant.Name(), ", temperature ", figure.temperature);
                       });
  batches.title = "Speed over plain decoding by batch";
  batches.subtitle = subtitle;
  batches.x_label = "requests at once";
  if (HasSeveralX(batches)) plots.emplace_back("speed_by_batch.svg", SvgText(batches));
  return plots;
}

}  // namespace mirrorsd::bench
