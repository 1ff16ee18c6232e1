// Whether plots can be drawn here: tests of what gnuplot draws are skipped where it is not installed.
#pragma once

#include <gtest/gtest.h>

#include "report/gnuplot.h"

#define NALAB_SKIP_WITHOUT_GNUPLOT() \
  if (!::nalab::report::run_gnuplot("set print '-'; print 1", "a probe")) GTEST_SKIP() << "gnuplot is not installed"
