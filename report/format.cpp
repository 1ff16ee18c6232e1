#include "report/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/problem.h"

namespace nalab::report {

std::string significant(double value, int digits) {
  const bool has_magnitude = std::isfinite(value) && value != 0;
  const int magnitude = has_magnitude ? static_cast<int>(std::floor(std::log10(std::abs(value)))) : 0;
  return fmt::format("{:.{}f}", value, std::max(0, digits - 1 - magnitude));
}

std::string exact(double value) { return fmt::format("{}", value); }
std::string exact(int64_t value) { return fmt::format("{}", value); }
std::string exact(const std::string& value) { return value; }

std::string pass_text(std::string_view pass) {
  if (pass == "forward_backward") return "forward + backward";
  if (pass == "training_step") return "training step";
  constexpr std::string_view kBackward = "_backward";
  if (!pass.ends_with(kBackward)) return std::string(pass);
  return std::string(pass.substr(0, pass.size() - kBackward.size())) + ", backward";
}

bool is_everywhere(int64_t value, std::string_view field, std::string_view text) {
  return std::ranges::all_of(parse_extents(field, text), [value](int64_t one) { return one == value; });
}

}  // namespace nalab::report
