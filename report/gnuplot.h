// Plots by gnuplot, which is looked for when a plot is asked for.
#pragma once

#include <string>

#include "core/error.h"

namespace nalab::report {

/// There is no plot: gnuplot is not installed, or it failed. The sentence says which, and the first line of the reason.
class GnuplotError : public Error {
 public:
  using Error::Error;
};

/// What gnuplot prints for a script, such as an SVG image. The user's start-up files and settings have no part in it,
/// and no file is written. Throws GnuplotError, which names `what` if gnuplot fails.
std::string run_gnuplot(const std::string& script, const std::string& what);

}  // namespace nalab::report
