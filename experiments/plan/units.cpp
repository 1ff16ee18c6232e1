#include "experiments/plan/units.h"

#include <fmt/format.h>

#include <cmath>

namespace nalab::plan {

namespace {

/// Three significant digits of a number below 1000.
std::string three_digits(double x) { return fmt::format("{:.{}f}", x, x >= 99.95 ? 0 : x >= 9.995 ? 1 : 2); }

std::string scaled(double x, const char* unit) {
  const char* prefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  std::size_t i = 0;
  for (; x >= 999.5 && i + 1 < std::size(prefixes); ++i) x /= 1000;
  return (i == 0 ? fmt::format("{:.0f}", x) : three_digits(x)) + " " + prefixes[i] + unit;
}

}  // namespace

std::string bytes_text(int64_t bytes) { return scaled(static_cast<double>(bytes), "B"); }

std::string flops_text(int64_t flops) { return scaled(static_cast<double>(flops), "FLOP"); }

std::string seconds_text(double seconds) {
  if (seconds < 1e-3) return three_digits(seconds * 1e6) + " us";
  if (seconds < 0.9995) return three_digits(seconds * 1e3) + " ms";
  if (seconds < 119.5) return three_digits(seconds) + " s";
  const int64_t whole = std::llround(seconds);
  if (whole < 7200) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace nalab::plan
