#include "services/bench/svg_plot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace mirrorsd::bench {
namespace {

constexpr double kWidth = 760, kHeight = 440;
constexpr double kLeft = 72, kRight = 24, kTop = 64, kBottom = 56;
constexpr double kLegendLine = 18;
// Told apart with any common colour blindness (Okabe and Ito), the light yellow left out.
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                    "#e69f00", "#56b4e9", "#555555"};

const char* ColourOf(size_t index) { return kColours[index % std::size(kColours)]; }

std::string Number(double value) {
  std::string text = absl::StrFormat("%.4g", value);
  return text == "-0" ? "0" : text;
}

std::string Text(double x, double y, const std::string& anchor, int size, const std::string& text,
                 const std::string& more = "") {
  return absl::StrFormat("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\"%s>%s</text>\n", x,
                         y, anchor, size, more, EscapeXml(text));
}

std::string Line(double x1, double y1, double x2, double y2, const std::string& style) {
  return absl::StrFormat("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2,
                         style);
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void Add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  // Never empty: a plot of nothing, or of one value, has axes too.
  void Open() {
    if (!(low <= high)) low = 0, high = 1;
    if (low == high) low -= low == 0 ? 0 : std::abs(low) / 2, high += high == 0 ? 1 : std::abs(high) / 2;
  }
};

class Drawing {
 public:
  explicit Drawing(const Plot& plot) : plot_(plot) {
    const size_t columns = 3;
    const size_t lines = plot.series.size() > 1 ? (plot.series.size() + columns - 1) / columns : 0;
    height_ = kHeight + kLegendLine * static_cast<double>(lines);
    bottom_ = kHeight - kBottom;
    Range x, y;
    for (const PlotSeries& series : plot.series) {
      for (const PlotValue& value : series.values) {
        if (!Shown(value)) continue;
        x.Add(Across(value.x));
        for (const double each : {value.y, value.low, value.high}) y.Add(each);
      }
    }
    if (plot.guide_y.has_value()) y.Add(*plot.guide_y);
    if (plot.y_from_zero || !plot.groups.empty()) y.Add(0);
    x.Open(), y.Open();
    x_ = x;
    y_ticks_ = NiceTicks(y.low, y.high, 6);
    y_ = {y_ticks_.front(), y_ticks_.back()};
  }

  std::string Draw() {
    out_ = absl::StrFormat(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f "
        "%.0f\" font-family=\"sans-serif\" fill=\"#222\">\n<rect width=\"100%%\" height=\"100%%\" "
        "fill=\"white\"/>\n",
        kWidth, height_, kWidth, height_);
    out_ += Text(kLeft, 26, "start", 17, plot_.title, " font-weight=\"bold\"");
    out_ += Text(kLeft, 46, "start", 12, plot_.subtitle, " fill=\"#555\"");
    DrawYAxis();
    plot_.groups.empty() ? DrawXAxis() : DrawGroupNames();
    if (plot_.guide_y.has_value()) {
      out_ += Line(kLeft, Y(*plot_.guide_y), kWidth - kRight, Y(*plot_.guide_y),
                   "stroke=\"#222\" stroke-dasharray=\"5 4\"");
    }
    for (size_t i = 0; i < plot_.series.size(); ++i) {
      plot_.groups.empty() ? DrawLine(i) : DrawBars(i);
    }
    DrawLegend();
    out_ += "</svg>\n";
    return std::move(out_);
  }

 private:
  bool Shown(const PlotValue& value) const {
    return std::isfinite(value.y) && std::isfinite(Across(value.x));
  }
  double Across(double x) const { return plot_.x_is_logarithmic ? std::log2(x) : x; }
  double X(double across) const {
    // A margin on both sides, so that no marker lies on the axis.
    const double share = (across - x_.low) / (x_.high - x_.low);
    return kLeft + (kWidth - kLeft - kRight) * (0.03 + 0.94 * share);
  }
  double Y(double y) const {
    return bottom_ - (bottom_ - kTop) * (y - y_.low) / (y_.high - y_.low);
  }

  void DrawYAxis() {
    for (const double tick : y_ticks_) {
      out_ += Line(kLeft, Y(tick), kWidth - kRight, Y(tick), "stroke=\"#ddd\"");
      out_ += Text(kLeft - 8, Y(tick) + 4, "end", 12, Number(tick));
    }
    out_ += Line(kLeft, kTop, kLeft, bottom_, "stroke=\"#222\"");
    const double middle = (kTop + bottom_) / 2;
    out_ += Text(18, middle, "middle", 13, plot_.y_label,
                 absl::StrFormat(" transform=\"rotate(-90 18 %.1f)\"", middle));
    out_ += Line(kLeft, bottom_, kWidth - kRight, bottom_, "stroke=\"#222\"");
    out_ += Text((kLeft + kWidth - kRight) / 2, bottom_ + 42, "middle", 13, plot_.x_label);
  }

  void DrawXAxis() {
    std::vector<double> ticks;
    if (plot_.x_is_logarithmic) {
      for (double at = std::ceil(x_.low - 1e-9); at <= x_.high + 1e-9; ++at) ticks.push_back(at);
    } else {
      ticks = NiceTicks(x_.low, x_.high, 8);
    }
    for (const double tick : ticks) {
      if (tick < x_.low - 1e-9 || tick > x_.high + 1e-9) continue;
      out_ += Line(X(tick), bottom_, X(tick), bottom_ + 5, "stroke=\"#222\"");
      out_ += Text(X(tick), bottom_ + 20, "middle", 12,
                   Number(plot_.x_is_logarithmic ? std::exp2(tick) : tick));
    }
  }

  double GroupWidth() const {
    return (kWidth - kLeft - kRight) / static_cast<double>(plot_.groups.size());
  }

  void DrawGroupNames() {
    // Long names of many groups take turns on two lines.
    const bool two_lines = plot_.groups.size() > 6;
    for (size_t i = 0; i < plot_.groups.size(); ++i) {
      const double x = kLeft + GroupWidth() * (static_cast<double>(i) + 0.5);
      out_ += Text(x, bottom_ + (two_lines && i % 2 == 1 ? 30 : 17), "middle", 12, plot_.groups[i]);
    }
  }

  void DrawErrorBar(double x, const PlotValue& value, const std::string& colour) {
    if (!std::isfinite(value.low) || !std::isfinite(value.high)) return;
    const std::string style = absl::StrCat("stroke=\"", colour, "\" stroke-width=\"1.2\"");
    out_ += Line(x, Y(value.low), x, Y(value.high), style);
    for (const double end : {value.low, value.high}) out_ += Line(x - 4, Y(end), x + 4, Y(end), style);
  }

  void DrawLine(size_t index) {
    const PlotSeries& series = plot_.series[index];
    std::string points;
    for (const PlotValue& value : series.values) {
      if (!Shown(value)) continue;
      absl::StrAppendFormat(&points, "%.1f,%.1f ", X(Across(value.x)), Y(value.y));
    }
    absl::StrAppendFormat(&out_, "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n",
                          points, ColourOf(index));
    for (const PlotValue& value : series.values) {
      if (!Shown(value)) continue;
      DrawErrorBar(X(Across(value.x)), value, ColourOf(index));
      absl::StrAppendFormat(&out_, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n",
                            X(Across(value.x)), Y(value.y), ColourOf(index));
    }
  }

  void DrawBars(size_t index) {
    const PlotSeries& series = plot_.series[index];
    const double width = GroupWidth() * 0.8 / static_cast<double>(plot_.series.size());
    for (size_t i = 0; i < series.values.size() && i < plot_.groups.size(); ++i) {
      const PlotValue& value = series.values[i];
      if (!std::isfinite(value.y)) continue;
      const double left = kLeft + GroupWidth() * (static_cast<double>(i) + 0.1) +
                          width * static_cast<double>(index);
      const double top = std::min(Y(value.y), Y(0));
      absl::StrAppendFormat(
          &out_, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", left, top,
          std::max(width - 1, 0.5), std::abs(Y(value.y) - Y(0)), ColourOf(index));
      DrawErrorBar(left + width / 2, value, "#222");
    }
  }

  void DrawLegend() {
    if (plot_.series.size() < 2) return;
    for (size_t i = 0; i < plot_.series.size(); ++i) {
      const double x = kLeft + static_cast<double>(i % 3) * (kWidth - kLeft - kRight) / 3;
      const double y = kHeight + 2 + kLegendLine * static_cast<double>(i / 3);
      absl::StrAppendFormat(
          &out_, "<rect x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"10\" fill=\"%s\"/>\n", x, y - 9,
          ColourOf(i));
      out_ += Text(x + 20, y, "start", 12, plot_.series[i].name);
    }
  }

  const Plot& plot_;
  Range x_, y_;
  std::vector<double> y_ticks_;
  double height_ = kHeight;
  double bottom_ = 0;
  std::string out_;
};

}  // namespace

std::vector<double> NiceTicks(double low, double high, int count) {
  if (!(low < high) || !std::isfinite(high - low)) return {low, low + 1};
  const double rough = (high - low) / std::max(count, 1);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * (1 - 1e-9)) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  const double first = std::floor(low / step + 1e-9);
  const double last = std::ceil(high / step - 1e-9);
  for (double i = first; i <= last; ++i) ticks.push_back(i * step);
  return ticks;
}

std::string EscapeXml(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      case '\'': escaped += "&apos;"; break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20) escaped.push_back(c);
    }
  }
  return escaped;
}

std::string SvgText(const Plot& plot) { return Drawing(plot).Draw(); }

}  // namespace mirrorsd::bench
