// What a plot is, apart from how it is drawn: modules make plots, draw.h draws them.
//
// A roofline is a plot of lines and points on two logarithmic axes; bars with a marker for their bound are bars and
// points on one axis of categories. Plots of bars and points whose categories have long names are drawn horizontally.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace nalab::report {

/// What a series stands for: chooses its colour. The first, second, ... series of the same role differ in shade.
enum class Role {
  ours,       ///< measured here; up to six series
  published,  ///< a published figure; up to three series
  baseline,   ///< what others are compared with
  bound,      ///< a limit or a model's answer
};

/// How a series is drawn. Series of bars stand beside each other in groups, in the order of the series.
enum class Mark { bars, line, points, line_and_points };

struct Point {
  double x = 0;  ///< on an axis of categories: the index of the category
  double y = 0;
  std::optional<double> low = {}, high = {};  ///< both or neither: ends of an error bar
  std::string label = {};                     ///< written beside the point; bars have none
};

struct Series {
  std::string name;
  Role role = Role::ours;
  Mark mark = Mark::bars;
  std::vector<Point> points;  ///< what was not measured is left out; lines run in this order
};

struct Axis {
  std::string label;  ///< with the unit: "window, tokens", "speedup over dense, x"
  bool is_logarithmic = false;
};

/// All texts are plain. A plot without a point is not drawn.
struct Plot {
  std::string name;                     ///< of its file and anchor: letters, digits, '_', '-' and '.'
  std::string title;                    ///< a few words
  std::vector<std::string> caption;     ///< sentences: machine and commit, what is shown, how it is made
  Axis x, y;                            ///< bars begin at 0, on a logarithmic y axis at 1
  std::vector<std::string> categories;  ///< along x; empty: x is a number
  std::vector<Series> series;
};

/// Values to be counted in a histogram.
struct Sample {
  std::string name;
  Role role = Role::ours;
  std::vector<double> values;  ///< positive
};

/// How many values lie in each bin from one power of two to the next, as a plot with bars for each sample. Requires a
/// value. The caption is left to the caller.
Plot histogram(std::string name, std::string title, std::string x_label, std::span<const Sample> samples);

}  // namespace nalab::report
