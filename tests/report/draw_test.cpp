// Plots as images: what is in them, that their ids and colours fit into a page, that they are the same every time.
#include "report/draw.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/report/has_gnuplot.h"

namespace nalab::report {
namespace {

using testing::HasSubstr;
using testing::Not;

Plot sample_plot() {
  Plot plot;
  plot.name = "small_case.b-1";
  plot.title = "A title";
  plot.x = {"", false};
  plot.y = {"speedup, 100% & it's <more>", false};
  plot.categories = {"A_1", "B & C, 50% of \"it\"", "third"};
  plot.series = {
      {"ours", Role::ours, Mark::bars, {{0, 1.5}, {1, 2.28, 2, 2.5}, {2, 3}}},
      {"published's", Role::published, Mark::bars, {{0, 4}, {2, 0.5}}},
      {"bound", Role::bound, Mark::points, {{0, 5}, {1, 6}}},
  };
  return plot;
}

Plot curves(bool logarithmic) {
  Plot plot;
  plot.name = "curves";
  plot.x = {"x", logarithmic};
  plot.y = {"y", logarithmic};
  plot.series = {{"line", Role::ours, Mark::line_and_points, {{1, 10}, {10, 1000, {}, {}, "the label"}}},
                 {"bound", Role::bound, Mark::line, {{1, 20}, {10, 2000}}}};
  return plot;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(Draw, SvgFitsIntoAPage) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  const std::string svg = draw_svg(sample_plot());
  EXPECT_THAT(svg, testing::StartsWith("<svg role=\"img\" aria-labelledby=\"p-small_case.b-1-title\" viewBox=\"0 0 "));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n\n"));
  // Colours follow the theme of the page: none of gnuplot's is left but those of definitions that nothing uses.
  EXPECT_THAT(svg, HasSubstr("var(--ours-1)"));
  EXPECT_THAT(svg, HasSubstr("var(--published-1)"));
  EXPECT_THAT(svg, HasSubstr("var(--bound-1)"));
  EXPECT_THAT(svg, HasSubstr("var(--plot-text)"));
  EXPECT_THAT(svg, Not(HasSubstr("rgb(")));
  EXPECT_THAT(svg, Not(HasSubstr("black")));
  // Texts arrive whole.
  EXPECT_THAT(svg, HasSubstr("speedup, 100% &amp; it's &lt;more>"));
  EXPECT_THAT(svg, HasSubstr("B &amp; C, 50% of \"it\""));
  EXPECT_THAT(svg, HasSubstr("published's"));
  for (const char* value : {">1.5<", ">2.3<", ">3.0<", ">4.0<", ">0.50<"}) EXPECT_EQ(count(svg, value), 1u) << value;
  EXPECT_EQ(count(svg, "id="), count(svg, "id='g-small_case.b-1-") + count(svg, "id=\"g-small_case.b-1-"));
  EXPECT_THAT(svg, Not(HasSubstr("A title"))) << "the page has it";
}

TEST(Draw, TheKeyOfLyingBarsLiesInTheImage) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  Plot plot = sample_plot();
  plot.categories[1] = "a name so long that it takes half the width";
  for (const char* name : {"simulated bound", "FLOP-wise bound", "the last one"}) {
    plot.series.push_back({name, Role::bound, Mark::points, {{0, 5}, {1, 6}}});
  }
  const std::string svg = draw_svg(plot);
  for (const Series& series : plot.series) {
    const std::string::size_type text = svg.find(">" + series.name + "<");
    ASSERT_NE(text, std::string::npos) << series.name;
    const std::string start = "translate(";
    const double x = std::stod(svg.substr(svg.rfind(start, text) + start.size()));
    EXPECT_LT(x + 9.0 * static_cast<double>(series.name.size()), 760) << series.name;
  }
}

TEST(Draw, BarsBelowZeroHaveRoom) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  Plot plot = sample_plot();
  plot.series = {{"n", Role::ours, Mark::bars, {{0, 5}, {1, -12}}}};
  const std::string svg = draw_svg(plot);
  EXPECT_THAT(svg, HasSubstr(">-12<")) << "its value";
  EXPECT_THAT(svg, HasSubstr(">-10<")) << "the axis";
}

TEST(Draw, ManyNamesStandBelowEachOther) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  Plot plot = sample_plot();
  plot.categories.assign(11, "DiNATs-T");
  plot.categories[0] = "first";
  plot.categories[1] = "second";
  const std::string svg = draw_svg(plot);
  const auto y_of = [&](const char* name) {
    const std::string start = "translate(";
    const std::size_t comma = svg.find(',', svg.rfind(start, svg.find(name)));
    return std::stod(svg.substr(comma + 1));
  };
  EXPECT_GT(y_of(">second<"), y_of(">first<") + 15);
}

TEST(Draw, CountsAreWrittenAsSuch) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  Plot plot = sample_plot();
  plot.series = {{"n", Role::ours, Mark::bars, {{0, 41}, {1, 0}, {2, 7}}}};
  const std::string svg = draw_svg(plot);
  for (const char* value : {">41<", ">7<"}) EXPECT_EQ(count(svg, value), 1u) << value;
}

TEST(Draw, TheSamePlotGivesTheSameBytes) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  EXPECT_EQ(draw_svg(sample_plot()), draw_svg(sample_plot()));
  EXPECT_EQ(draw_png(sample_plot()), draw_png(sample_plot()));
}

TEST(Draw, PngIsAnImage) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  EXPECT_THAT(draw_png(sample_plot()), testing::StartsWith("\x89PNG\r\n"));
}

TEST(Draw, CurvesOnAnyAxes) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  for (const bool logarithmic : {false, true}) {
    const std::string svg = draw_svg(curves(logarithmic));
    EXPECT_THAT(svg, HasSubstr("the label"));
    EXPECT_THAT(svg, HasSubstr("stroke-dasharray")) << "a bound is dashed";
  }
}

TEST(Draw, WhatCannotBeDrawnIsLeftOut) {
  NALAB_SKIP_WITHOUT_GNUPLOT();
  Plot plot = curves(true);
  const std::string before = draw_svg(plot);
  plot.series[0].points.push_back({0, 5});
  plot.series[0].points.push_back({5, -1});
  plot.series[1].points.push_back({NAN, 1});
  plot.series[1].points.push_back({1, INFINITY});
  plot.series.push_back({"empty", Role::ours, Mark::bars, {}});
  EXPECT_EQ(count(draw_svg(plot), "empty"), 0u);
  plot.series.pop_back();
  EXPECT_EQ(draw_svg(plot), before);
}

TEST(Draw, APlotWithoutPointsIsNone) {
  Plot plot = sample_plot();
  EXPECT_TRUE(has_points(plot));
  for (Series& series : plot.series) series.points.clear();
  EXPECT_FALSE(has_points(plot));
}

TEST(Draw, BothThemesHaveAllColours) {
  const std::string light = palette_css(false), dark = palette_css(true);
  EXPECT_NE(light, dark);
  EXPECT_EQ(count(light, "--"), count(dark, "--"));
  EXPECT_EQ(count(light, "#"), count(light, "--"));
}

TEST(Histogram, BinsReachFromPowerToPower) {
  const std::vector<Sample> samples{{"a", Role::ours, {0.5, 0.99, 1, 1.99, 2, 9}}, {"b", Role::published, {0.3, 1.5}}};
  const Plot plot = histogram("h", "H", "speedup", samples);
  EXPECT_THAT(plot.categories, testing::ElementsAre("1/4 to 1/2", "1/2 to 1", "1 to 2", "2 to 4", "4 to 8", "8 to 16"));
  std::vector<double> a, b;
  for (const Point& point : plot.series.at(0).points) a.push_back(point.y);
  for (const Point& point : plot.series.at(1).points) b.push_back(point.y);
  EXPECT_THAT(a, testing::ElementsAre(0, 2, 2, 1, 0, 1));
  EXPECT_THAT(b, testing::ElementsAre(1, 0, 1, 0, 0, 0));
}

}  // namespace
}  // namespace nalab::report
