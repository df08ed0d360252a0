#include "services/bench/svg_plot.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mirrorsd::bench {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Whether each tag is closed in its order, attributes are quoted and text holds no bare special character.
bool IsWellFormed(const std::string& xml) {
  std::vector<std::string> open;
  for (size_t i = 0; i < xml.size();) {
    if (xml[i] == '&') {
      const size_t end = xml.find(';', i);
      if (end == std::string::npos || end > i + 6) return false;
      i = end + 1;
      continue;
    }
    if (xml[i] == '>') return false;
    if (xml[i] != '<') {
      ++i;
      continue;
    }
    const size_t end = xml.find('>', i);
    if (end == std::string::npos) return false;
    const std::string tag = xml.substr(i + 1, end - i - 1);
    if (tag.find('<') != std::string::npos) return false;
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return false;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
    } else if (tag.back() != '/') {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    i = end + 1;
  }
  return open.empty();
}

size_t CountOf(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(SvgPlot, TicksAreRoundAndCoverTheRange) {
  EXPECT_THAT(NiceTicks(0, 10, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(NiceTicks(0, 2.37, 6),
              ElementsAre(0, DoubleNear(0.5, 1e-9), 1, DoubleNear(1.5, 1e-9), 2, 2.5));
  EXPECT_THAT(NiceTicks(-3, 42, 5), ElementsAre(-10, 0, 10, 20, 30, 40, 50));
  EXPECT_THAT(NiceTicks(0, 0.00031, 3),
              ElementsAre(0, DoubleNear(2e-4, 1e-9), DoubleNear(4e-4, 1e-9)));
  EXPECT_EQ(NiceTicks(5, 5, 4).size(), 2u);
  EXPECT_EQ(NiceTicks(0, std::numeric_limits<double>::infinity(), 4).size(), 2u);
}

TEST(SvgPlot, TextIsEscaped) {
  EXPECT_EQ(EscapeXml("a < b & \"c\" > 'd'\x01\n"), "a &lt; b &amp; &quot;c&quot; &gt; &apos;d&apos;");
  Plot plot{.title = "</svg><script>", .subtitle = "&", .x_label = "<", .y_label = "\"",
            .series = {{"<one>", {{1, 2}}}, {"two & three", {{1, 3}}}}};
  const std::string svg = SvgText(plot);
  EXPECT_TRUE(IsWellFormed(svg)) << svg;
  EXPECT_THAT(svg, HasSubstr("&lt;/svg&gt;&lt;script&gt;"));
  EXPECT_THAT(svg, Not(HasSubstr("<script")));
}

TEST(SvgPlot, LinesHaveTheirPointsErrorBarsAndLegend) {
  Plot plot{.title = "speed", .x_label = "window", .y_label = "times",
            .series = {{"serial", {{2, 1.2, 1.1, 1.3}, {4, 1.5, 1.4, 1.6}, {8, 1.4}}},
                       {"other", {{2, 1}, {4, std::nan("")}, {8, 1}}}},
            .x_is_logarithmic = true, .guide_y = 1};
  const std::string svg = SvgText(plot);
  EXPECT_TRUE(IsWellFormed(svg)) << svg;
  EXPECT_EQ(CountOf(svg, "<circle"), 5u);
  EXPECT_EQ(CountOf(svg, "<polyline"), 2u);
  EXPECT_EQ(CountOf(svg, "stroke-width=\"1.2\""), 6u);  // a line and two ends for each of two intervals
  EXPECT_EQ(CountOf(svg, ">serial<"), 1u);
  EXPECT_THAT(svg, HasSubstr("stroke-dasharray"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  for (const char* tick : {">2<", ">4<", ">8<"}) EXPECT_THAT(svg, HasSubstr(tick));
}

TEST(SvgPlot, HigherValuesStandHigher) {
  const std::string svg = SvgText({.series = {{"one", {{0, 1}, {1, 4}}}}});
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
  const size_t at = svg.find("points=\"");
  ASSERT_NE(at, std::string::npos);
  ASSERT_EQ(std::sscanf(svg.c_str() + at, "points=\"%lf,%lf %lf,%lf", &x1, &y1, &x2, &y2), 4);
  EXPECT_LT(x1, x2);
  EXPECT_GT(y1, y2);
}

TEST(SvgPlot, BarsStandInTheirGroups) {
  Plot plot{.title = "speed by kind", .y_label = "times",
            .series = {{"window 2", {{0, 1.2}, {0, 0.8}}}, {"window 4", {{0, 1.5}, {0, std::nan("")}}}},
            .groups = {"story", "program"}};
  const std::string svg = SvgText(plot);
  EXPECT_TRUE(IsWellFormed(svg)) << svg;
  EXPECT_EQ(CountOf(svg, "<rect"), 1u + 3u + 2u);  // paper, bars, legend
  for (const char* name : {">story<", ">program<", ">window 2<"}) EXPECT_THAT(svg, HasSubstr(name));
}

TEST(SvgPlot, NothingIsAPlotToo) {
  EXPECT_TRUE(IsWellFormed(SvgText({})));
  EXPECT_TRUE(IsWellFormed(SvgText({.series = {{"empty", {}}}, .groups = {"a"}})));
  EXPECT_TRUE(IsWellFormed(
      SvgText({.series = {{"no", {{-1, 1}, {0, 2}}}}, .x_is_logarithmic = true})));
}

}  // namespace
}  // namespace mirrorsd::bench
