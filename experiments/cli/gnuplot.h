// Plots by gnuplot, which is looked for when a plot is asked for.
#pragma once

#include <string>

namespace nalab::cli {

/// Runs a gnuplot script and keeps what it prints, such as an SVG image, in a file.
/// Throws Error where gnuplot is missing or fails, or the file cannot be written; then there is no file.
void plot(const std::string& script, const std::string& path);

}  // namespace nalab::cli
