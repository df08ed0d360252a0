#pragma once
// Plots as SVG text that stands for itself: lines over an axis and groups of bars, both with error bars, ticks at
// round numbers, a legend and a title. Not a plotting library: what the docs need. Text is escaped; a value
// that is not finite is left out. Pure functions, callable from any thread.

#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace mirrorsd::bench {

struct PlotValue {
  double x = 0;  // of a bar: not looked at
  double y = 0;
  // Ends of the error bar; not finite: none.
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
};

struct PlotSeries {
  std::string name;
  std::vector<PlotValue> values;  // of bars: one per group, in order
};

struct Plot {
  std::string title;
  std::string subtitle;  // small, below the title: how and on what it was measured
  std::string x_label;
  std::string y_label;
  std::vector<PlotSeries> series;
  // Bars in groups of these names instead of lines.
  std::vector<std::string> groups;
  bool x_is_logarithmic = false;  // to base 2, ticks at the powers; positive x only
  bool y_from_zero = true;
  std::optional<double> guide_y;  // a dashed line right across: "no faster, no slower"
};

std::string SvgText(const Plot& plot);

// At most about `count` round numbers (1, 2 or 5 times a power of ten apart) that cover [low, high].
std::vector<double> NiceTicks(double low, double high, int count);

// The five characters that XML gives a meaning are replaced, control characters are dropped.
std::string EscapeXml(const std::string& text);

}  // namespace mirrorsd::bench
