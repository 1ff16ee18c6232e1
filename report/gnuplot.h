// Plots by gnuplot, which is looked for when a plot is asked for.
#pragma once

#include <optional>
#include <string>

namespace nalab::report {

/// What gnuplot prints for a script, such as an SVG image; none if gnuplot is not installed.
/// Throws Error that names `what` if gnuplot fails.
std::optional<std::string> run_gnuplot(const std::string& script, const std::string& what);

}  // namespace nalab::report
