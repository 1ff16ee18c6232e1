// Whether plots can be drawn here: tests of what gnuplot draws are skipped where it is not installed.
#pragma once

#include <gtest/gtest.h>

#include "report/gnuplot.h"

namespace nalab::report {

inline bool has_gnuplot() {
  try {
    return !run_gnuplot("set print '-'; print 1", "a probe").empty();
  } catch (const GnuplotError&) {
    return false;
  }
}

}  // namespace nalab::report

#define NALAB_SKIP_WITHOUT_GNUPLOT() \
  if (!::nalab::report::has_gnuplot()) GTEST_SKIP() << "gnuplot is not installed"
