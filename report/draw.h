// Plots as images, by gnuplot. The same plot gives the same bytes.
#pragma once

#include <string>

#include "report/plot.h"

namespace nalab::report {

/// Whether there is a point to draw.
bool has_points(const Plot& plot);

/// An <svg> element to stand in a page, without title and caption. Its ids begin with the plot's name; its colours are
/// the variables of palette_css(), on no background. Throws GnuplotError (report/gnuplot.h).
std::string draw_svg(const Plot& plot);

/// A PNG image with title, on white. Throws GnuplotError.
std::string draw_png(const Plot& plot);

/// The CSS variables of the colours on a light or on a dark background: "--ours-1: #3b76d6; ..."
std::string palette_css(bool dark);

}  // namespace nalab::report
