// Plots by gnuplot, which is looked for when a plot is asked for.
#pragma once

#include <chrono>
#include <string>

#include "core/error.h"

namespace nalab::report {

/// There is no plot: gnuplot is not installed, it failed, or it did not end. The sentence says which, and the first
/// line of the reason.
class GnuplotError : public Error {
 public:
  using Error::Error;
};

/// How long gnuplot may take for a plot: far longer than any does.
inline constexpr std::chrono::milliseconds kGnuplotLimit = std::chrono::seconds(60);

/// What gnuplot prints for a script, such as an SVG image. The user's start-up files and settings have no part in it,
/// and no file is written. After `limit` it is ended. Throws GnuplotError, which names `what` if gnuplot fails.
std::string run_gnuplot(const std::string& script, const std::string& what,
                        std::chrono::milliseconds limit = kGnuplotLimit);

}  // namespace nalab::report
